/* Goal: each request is one line, whatever bytes are in it; a sink that takes nothing, breaks or is
 * full costs lines, which are counted, but never time; a file can be rotated.
 *
 * access.c is included, so that a sink can be forced to be asked with poll(). write() is wrapped,
 * to fail when it is told to. */
#include "lib/random.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "observe/access.c"

#include <signal.h>
#include <stdio.h>

static struct {
    int error;       /* write() to the sink fails so; 0: it does not */
    size_t size_max; /* or takes no more than this */
} broken = {.size_max = SIZE_MAX};

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    if (fd <= STDERR_FILENO)
        return __real_write(fd, data, size);
    if (broken.size_max < SIZE_MAX && size > broken.size_max)
        size = broken.size_max;
    if (broken.error != 0 && (broken.size_max == SIZE_MAX || size == 0)) {
        errno = broken.error;
        return -1;
    }
    if (broken.size_max < SIZE_MAX)
        broken.size_max -= size;
    return __real_write(fd, data, size);
}

static const struct access_line books = {
    .wall_us = UINT64_C(1767225599123456),
    .id = 0x10000000011,
    .peer = {"10.0.0.1:5000", 13},
    .method = {"GET", 3},
    .path = {"/books/1?x=\"y\"\n", 15},
    .route = {"GET /books/:id", 14},
    .plugin = {"books", 5},
    .status = 200,
    .bytes_out = 55,
    .total_us = 1204,
    .queue_us = 310,
    .pg_us = 702,
    .call_us = 0,
    .why = "done",
};

#define BOOKS_LINE                                                                                \
    "time=2025-12-31T23:59:59.123Z id=0000010000000011 peer=10.0.0.1:5000 method=GET "            \
    "path=\"/books/1?x=\\\"y\\\"\\n\" route=\"GET /books/:id\" plugin=books status=200 bytes=55 " \
    "total_ms=1.204 queue_ms=0.310 pg_ms=0.702 call_ms=0.000 why=done\n"

static struct temp_dir dir;
static char text[1 << 20];

static int setup(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    log_setup(STDERR_FILENO, LOG_ERROR, false); /* what is dropped is said as a warning */
    broken.error = 0;
    broken.size_max = SIZE_MAX;
    temp_dir_init(&dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_dir_deinit(&dir);
    return 0;
}

static const char *content(const char *name)
{
    FILE *file = fopen(temp_dir_path(&dir, name), "re");
    size_t len;

    assert_non_null(file);
    len = fread(text, 1, sizeof text - 1, file);
    text[len] = '\0';
    (void)fclose(file);
    return text;
}

static struct access_log *opened(const char *name, bool as_json)
{
    struct access_log *log = NULL;

    assert_int_equal(access_open(temp_dir_path(&dir, name), as_json, &log), ERR_OK);
    return log;
}

/* A log whose sink is `fd`. */
static struct access_log *opened_fd(int fd, enum sink sink)
{
    struct access_log *log = opened("unused", false);

    (void)close(log->fd);
    log->fd = fd;
    log->sink = sink;
    return log;
}

static void test_a_line_of_keys_and_values(void **state)
{
    struct access_log *log = opened("log", false);

    (void)state;
    access_write(log, &books);
    assert_string_equal(content("log"), "");
    access_flush(log);
    assert_string_equal(content("log"), BOOKS_LINE);
    access_flush(log);
    access_write(log, &books);
    access_close(log);
    assert_string_equal(content("log"), BOOKS_LINE BOOKS_LINE);
}

static void test_a_line_of_json(void **state)
{
    struct access_log *log = opened("log", true);

    (void)state;
    access_write(log, &books);
    access_close(log);
    assert_string_equal(
        content("log"),
        "{\"time\":\"2025-12-31T23:59:59.123Z\",\"id\":\"0000010000000011\",\"peer\":\"10.0.0.1:"
        "5000\","
        "\"method\":\"GET\",\"path\":\"/books/1?x=\\\"y\\\"\\n\",\"route\":\"GET /books/:id\","
        "\"plugin\":\"books\",\"status\":200,\"bytes\":55,\"total_ms\":1.204,\"queue_ms\":0.310,"
        "\"pg_ms\":0.702,\"call_ms\":0.000,\"why\":\"done\"}\n");
}

static void test_what_is_not_known_is_a_dash(void **state)
{
    struct access_log *log = opened("log", false);

    (void)state;
    access_write(log, &(struct access_line){.id = 0});
    access_close(log);
    assert_string_equal(
        content("log"),
        "time=1970-01-01T00:00:00.000Z id=0000000000000000 peer=- method=- path=- route=- "
        "plugin=- status=0 bytes=0 total_ms=0.000 queue_ms=0.000 pg_ms=0.000 "
        "call_ms=0.000 why=-\n");
}

static void test_without_a_log_nothing_happens(void **state)
{
    (void)state;
    access_write(NULL, &books);
    access_flush(NULL);
    access_close(NULL);
}

static void test_the_largest_line_fits(void **state)
{
    struct access_log *log = opened("log", true);
    struct access_line line;
    char big[3000];

    (void)state;
    memset(big, '\x01', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    line = (struct access_line){.wall_us = books.wall_us,
                                .id = UINT64_MAX,
                                .given_id = span_of(big),
                                .peer = span_of(big),
                                .method = span_of(big),
                                .path = span_of(big),
                                .route = span_of(big),
                                .plugin = span_of(big),
                                .status = UINT32_MAX,
                                .bytes_out = UINT64_MAX,
                                .total_us = UINT64_MAX,
                                .queue_us = UINT64_MAX,
                                .pg_us = UINT64_MAX,
                                .call_us = UINT64_MAX,
                                .why = big};
    access_write(log, &line);
    assert_true(log->lines.len > TEXTS * (ACCESS_TEXT_MAX - 10));
    assert_true(log->lines.len <= LINE_SIZE_MAX);
    access_close(log);
    (void)content("log");
    assert_int_equal(strcspn(text, "\n"), strlen(text) - 1);
}

static void test_a_large_batch_goes_out_by_itself(void **state)
{
    struct access_log *log = opened("log", false);

    (void)state;
    for (int i = 0; i < ACCESS_FLUSH_SIZE / 200; i++)
        access_write(log, &books);
    assert_true(strlen(content("log")) >= ACCESS_FLUSH_SIZE);
    access_close(log);
    assert_int_equal(strlen(content("log")), ACCESS_FLUSH_SIZE / 200 * strlen(BOOKS_LINE));
}

/* Reads all that is in the pipe. */
static size_t drain(int fd)
{
    size_t len = 0;
    ssize_t count;

    while ((count = read(fd, text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)count;
    text[len] = '\0';
    return len;
}

/* Nobody reads: what was kept comes later, whole, and what was dropped was counted. */
static void blocks_and_goes_on(int fds[2], enum sink sink)
{
    struct access_log *log = opened_fd(fds[1], sink);
    const uint64_t count = 4000;
    size_t len = 0;

    for (uint64_t i = 0; i < count; i++) {
        access_write(log, &books);
        if (i % 10 == 0)
            access_flush(log);
    }
    assert_true(access_dropped(log) > 0);
    assert_true(log->lines.len <= ACCESS_BUFFER_MAX);
    while (log->lines.len > 0) {
        len += drain(fds[0]);
        access_flush(log);
    }
    len += drain(fds[0]);
    assert_int_equal(len, (count - access_dropped(log)) * strlen(BOOKS_LINE));
    assert_string_equal(text + strlen(text) - 10, " why=done\n");
    access_close(log);
    (void)close(fds[0]);
}

static void test_a_full_pipe_delays_nobody(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    blocks_and_goes_on(fds, SINK_FILE);
}

static void test_a_full_pipe_of_others_delays_nobody(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    blocks_and_goes_on(fds, SINK_POLLED);
}

static void test_a_full_socket_delays_nobody(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    blocks_and_goes_on(fds, SINK_SOCKET);
}

static void test_a_reader_that_left_costs_lines_only(void **state)
{
    struct access_log *log;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    (void)close(fds[0]);
    log = opened_fd(fds[1], SINK_FILE);
    access_write(log, &books);
    access_write(log, &books);
    access_flush(log);
    assert_int_equal(access_dropped(log), 2);
    access_close(log);
}

static void test_a_full_disk_breaks_no_later_line(void **state)
{
    struct access_log *log = opened("log", false);

    (void)state;
    access_write(log, &books);
    access_write(log, &books);
    access_write(log, &books);
    broken.error = ENOSPC;
    broken.size_max = strlen(BOOKS_LINE) + 4;
    access_flush(log);
    assert_int_equal(access_dropped(log), 2);
    access_write(log, &books);
    access_flush(log);
    assert_int_equal(access_dropped(log), 3);
    broken.error = 0;
    broken.size_max = SIZE_MAX;
    access_write(log, &books);
    access_close(log);
    assert_string_equal(content("log"), BOOKS_LINE "time\n" BOOKS_LINE);
}

static void test_rotation(void **state)
{
    struct access_log *log = opened("log", false);
    char from[256];

    (void)state;
    access_write(log, &books);
    snprintf(from, sizeof from, "%s", temp_dir_path(&dir, "log"));
    assert_int_equal(rename(from, temp_dir_path(&dir, "log.1")), 0);
    assert_int_equal(access_reopen(log), ERR_OK);
    access_write(log, &books);
    access_write(log, &books);
    access_close(log);
    assert_string_equal(content("log.1"), BOOKS_LINE);
    assert_string_equal(content("log"), BOOKS_LINE BOOKS_LINE);
}

static void test_a_failed_rotation_keeps_the_old_file(void **state)
{
    struct access_log *log;
    char folder[256];
    char moved[256];

    (void)state;
    snprintf(folder, sizeof folder, "%s", temp_dir_path(&dir, "folder"));
    snprintf(moved, sizeof moved, "%s", temp_dir_path(&dir, "moved"));
    assert_int_equal(mkdir(folder, 0700), 0);
    log = opened("folder/log", false);
    assert_int_equal(rename(folder, moved), 0);
    assert_int_equal(access_reopen(log), ERR_IO);
    access_write(log, &books);
    access_close(log);
    assert_string_equal(content("moved/log"), BOOKS_LINE);
}

static void test_open_says_what_it_cannot(void **state)
{
    struct access_log *log = NULL;

    (void)state;
    assert_int_equal(access_open(temp_dir_path(&dir, "no/log"), false, &log), ERR_IO);
    assert_int_equal(access_open(dir.path, false, &log), ERR_IO);
    assert_null(log);
}

static void test_standard_streams_keep_their_flags(void **state)
{
    struct access_log *log = NULL;
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(access_open("stderr", false, &log), ERR_OK);
    assert_true(log->sink != SINK_FILE || (fcntl(log->fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
    assert_int_not_equal(log->fd, STDERR_FILENO);
    access_write(log, &books);
    assert_int_equal(access_reopen(log), ERR_OK);
    access_close(log);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved);
    (void)close(fds[1]);
    assert_int_equal(drain(fds[0]), strlen(BOOKS_LINE));
    assert_string_equal(text, BOOKS_LINE);
    (void)close(fds[0]);
}

static void test_a_file_is_shared_with_the_error_log(void **state)
{
    struct access_log *log = NULL;
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    int fd = open(temp_dir_write(&dir, "both", "", 0), O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(access_open("stderr", false, &log), ERR_OK);
    access_write(log, &books);
    access_flush(log);
    assert_int_equal(write(STDERR_FILENO, "error\n", 6), 6);
    access_write(log, &books);
    access_close(log);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved);
    (void)close(fd);
    assert_string_equal(content("both"), BOOKS_LINE "error\n" BOOKS_LINE);
}

static void test_random_texts_are_one_line_each(void **state)
{
    uint64_t random = 21;
    char bytes[6][64];

    (void)state;
    for (int round = 0; round < 2; round++) {
        const char *name = round ? "json" : "plain";
        struct access_log *log = opened(name, round);
        uint32_t lines = 0;

        for (int i = 0; i < 1000; i++) {
            struct span texts[5];

            for (int k = 0; k < 5; k++) {
                texts[k] = (struct span){bytes[k], random_below(&random, 64)};
                for (size_t at = 0; at < texts[k].len; at++)
                    bytes[k][at] = (char)random_next(&random);
            }
            access_write(log, &(struct access_line){.peer = texts[0],
                                                    .method = texts[1],
                                                    .path = texts[2],
                                                    .route = texts[3],
                                                    .plugin = texts[4]});
        }
        access_close(log);
        (void)content(name);
        for (const char *at = text; *at != '\0'; at++) {
            lines += *at == '\n';
            assert_true(*at == '\n' || (unsigned char)*at >= ' ');
        }
        assert_int_equal(lines, 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_line_of_keys_and_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_line_of_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_not_known_is_a_dash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_log_nothing_happens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_largest_line_fits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_large_batch_goes_out_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_pipe_delays_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_pipe_of_others_delays_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_socket_delays_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_that_left_costs_lines_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_breaks_no_later_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_failed_rotation_keeps_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_says_what_it_cannot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_standard_streams_keep_their_flags, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_is_shared_with_the_error_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_texts_are_one_line_each, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
