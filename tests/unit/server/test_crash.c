/* Goal: a crash report is one line in the log's own form, says what the page of blame says, and the
 * process dies of the signal all the same; who handles a signal already keeps it. */
#include "base/log.h"
#include "lib/test.h"
#include "observe/blame.h"
#include "server/crash.h"
#include "task/fiber.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a test's child does. */
struct child {
    bool is_json;
    const char *plugin; /* NULL: no page */
    const char *route;
    void (*die)(void);
};

static char text[16384];

/* Runs it, and reads what it wrote. Answers its status. */
static int run(const struct child *child)
{
    struct blame *blame = child->plugin != NULL ? blame_create() : NULL;
    int ends[2], status;
    size_t len = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        log_setup(ends[1], LOG_INFO, child->is_json);
        for (int number = 1; number < 32; number++) /* cmocka's and the sanitizers' */
            (void)signal(number, SIG_DFL);
        crash_install("worker 7", blame);
        if (blame != NULL)
            blame_enter(blame, blame_name(blame, span_of(child->plugin), span_of(child->route)),
                        0xab);
        child->die();
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    blame_destroy(blame);
    return status;
}

static void assert_text(const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("not there: %s\n%s", part, text);
}

static void send_bus(void)
{
    (void)raise(SIGBUS);
}

static void test_the_line(void **state)
{
    int status = run(&(struct child){.plugin = "books", .route = "GET /books", .die = abort});

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_int_equal(strncmp(text, "time=20", 7), 0);
    assert_text(" level=error pid=");
    assert_text(" process=\"worker 7\" msg=\"crashed: signal 6 (SIGABRT)\" plugin=books "
                "route=\"GET /books\" request=00000000000000ab\n");
    assert_text("[0x"); /* a frame of the backtrace */
}

static void test_the_line_as_json(void **state)
{
    int status = run(&(struct child){true, "a\"b\\c\n", "GET /", send_bus});

    (void)state;
    assert_int_equal(WTERMSIG(status), SIGBUS);
    assert_int_equal(strncmp(text, "{\"time\":\"20", 11), 0);
    assert_text("\"msg\":\"crashed: signal 7 (SIGBUS)\",\"plugin\":\"a?b?c?\",\"route\":\"GET /\","
                "\"request\":\"00000000000000ab\"}\n");
}

static void test_nobody_to_blame(void **state)
{
    (void)state;
    (void)run(&(struct child){.die = abort});
    assert_text("plugin=- route=- request=-\n");
}

static struct fiber_pool *fibers;

/* Touches the guard page below its stack: what lies below the frame of a small stack. */
static void touch_guard(void *data)
{
    volatile char *byte = (volatile char *)__builtin_frame_address(0);

    (void)data;
    for (;; byte -= 512)
        *byte = 0;
}

static void overflow(void)
{
    fibers = fiber_pool_create(&(struct fiber_options){.stack_size = 16384});
    crash_watch_fibers(fibers);
    (void)fiber_start(fibers, touch_guard, NULL, true);
}

static void test_an_overflow_is_told(void **state)
{
    int status = run(&(struct child){.plugin = "deep", .route = "GET /", .die = overflow});

    (void)state;
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_text(": stack overflow of a fiber\" plugin=deep");
}

static void on_abort(int number)
{
    (void)number;
    _exit(17);
}

static void abort_handled(void)
{
    (void)signal(SIGABRT, on_abort);
    crash_install("again", NULL);
    abort();
}

static void test_a_handler_that_is_there_stays(void **state)
{
    int status = run(&(struct child){.die = abort_handled});

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 17);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_line),
        cmocka_unit_test(test_the_line_as_json),
        cmocka_unit_test(test_nobody_to_blame),
        cmocka_unit_test(test_an_overflow_is_told),
        cmocka_unit_test(test_a_handler_that_is_there_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
