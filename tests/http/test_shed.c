/* Goal: where more comes than can be done in time, so many are refused at once that the others are
 * served in time; a burst, what is vital, and what does not want what is scarce, are served in any
 * case. */
#include "base/log.h"
#include "http/inside.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static struct http_world http;

/* What the kernel says of a socket: for how long its bytes have lain there. */
static bool knows_delay; /* else it is asked, and says that the socket is none of TCP's */
static uint32_t delay_ms, delay_asks;

static int set_up(void **state)
{
    (void)state;
    knows_delay = false;
    delay_ms = 0;
    http_world_init(&http);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_world_settle(&http);
    http_world_deinit(&http);
    return 0;
}

static void walk(uint32_t ms)
{
    fake_clock_walk(&http.world.clock, http.world.loop, ms);
    http_world_settle(&http);
}

static void assert_logged(const char *text)
{
    if (strstr(http_world_log(&http), text) == NULL)
        fail_msg("%s is not in: %s", text, http.text);
}

enum { SHED_MS = 40 };

/* Takes the loop's time: the turn is that long. */
static void serve_burn(struct http_request *request, void *data)
{
    const uint32_t *ms = data;

    http.world.clock.now_us += *ms * 1000ull;
    assert_int_equal(http_reply(request, 200, SPAN("text/plain"), SPAN("burnt")), ERR_OK);
}

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size);

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    struct tcp_info info = {.tcpi_last_data_recv = delay_ms};

    if (level != IPPROTO_TCP || name != TCP_INFO || !knows_delay)
        return __real_getsockopt(fd, level, name, value, size);
    assert_true(*size < sizeof info);
    memcpy(value, &info, *size);
    delay_asks++;
    return 0;
}

/* Waits in line for a place that there is not. */
static struct line line;
static struct op *lined;
static struct http_request *holding;

static void serve_lined(struct http_request *request, void *data)
{
    (void)data;
    lined = fake_start(request->scope, NULL, false);
    op_line_up(lined, &line);
    holding = request;
}

static void serve_vital(struct http_request *request, void *data)
{
    (void)data;
    assert_int_equal(http_reply(request, 200, SPAN("text/plain"), SPAN("well")), ERR_OK);
}

static void start_shedding(http_handler_fn *fn, uint32_t *ms)
{
    struct http_route *route;

    http.options.shed_after_ms = SHED_MS;
    http_world_start(&http);
    route = http_world_route(&http, "GET", "/load", fn, 0);
    route->data = ms;
    http_world_route(&http, "GET", "/health", serve_vital, HTTP_ROUTE_VITAL);
}

/* Asks for /load so often, a request each 20 ms, and counts who was refused. */
static uint32_t load(int fd, uint32_t times)
{
    uint32_t refused = 0;

    for (uint32_t i = 0; i < times; i++) {
        walk(20);
        http_world_send(&http, fd, SPAN(G("/load")));
        refused += strstr(http_world_answers(&http, fd, 0), "503") != NULL;
    }
    return refused;
}

/* How often requests ended for this reason: what the access log has as `why`. */
static uint64_t count_of(const char *reason)
{
    const struct http_reasons *reasons = &http_server_counts(http.server)->reasons;

    for (size_t i = 0; i < HTTP_REASONS_MAX; i++) {
        if (strcmp(reasons->at[i].name, reason) == 0)
            return reasons->at[i].count;
    }
    return 0;
}

/* A Unix socket says nothing of who waits in it: the turns themselves are measured. */
static void test_long_turns_shed(void **state)
{
    uint32_t ms = SHED_MS - 1, refused;
    int fd;

    (void)state;
    start_shedding(serve_burn, &ms);
    fd = http_world_connect(&http);
    assert_int_equal(load(fd, 100), 0); /* as long as allowed, at all times */
    ms = SHED_MS + 1;
    refused = load(fd, 100);
    assert_in_range(refused, 20, 90); /* again and again: what is refused lets others through */
    assert_int_equal(count_of("shed"), http.server->shed.count);
    assert_int_equal(refused, http.server->shed.count);
    walk(500);
    ms = 0;
    assert_int_equal(load(fd, 20), 0); /* over and forgotten */
    close_fd(&fd);
}

/* Who has lain in the kernel for long is refused where all have, and no more than a quarter of that
 * is allowed from then on. */
static void test_long_waits_shed(void **state)
{
    uint32_t ms = 0;
    int fd;

    (void)state;
    knows_delay = true;
    start_shedding(serve_burn, &ms);
    fd = http_world_connect(&http);
    delay_ms = SHED_MS;
    assert_int_equal(load(fd, 100), 0);
    delay_ms = SHED_MS + 1;
    assert_in_range(load(fd, 20), 5, 12); /* noticed once eight have waited */
    delay_ms = SHED_MS / 4;
    assert_int_equal(load(fd, 3), 0);
    delay_ms = SHED_MS / 4 + 1;
    assert_int_equal(load(fd, 30), 30);
    http_world_send(&http, fd, SPAN(G("/health")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(well)");
    delay_ms = SHED_MS / 4;
    assert_int_equal(load(fd, 40), 0); /* in less than a second: that may have been chance */
    delay_ms = SHED_MS / 4 + 1;
    assert_int_equal(load(fd, 1), 1);
    delay_ms = SHED_MS / 4;
    assert_int_equal(load(fd, 60), 0);
    delay_ms = SHED_MS;
    assert_int_equal(load(fd, 5), 0); /* off again: what is allowed is what it was */
    delay_ms = SHED_MS + 1;
    assert_in_range(load(fd, 20), 5, 15); /* on */
    delay_ms = 0;
    assert_int_equal(load(fd, 10), 0); /* nobody waits: off at once */
    delay_ms = SHED_MS;                /* off again: what is allowed is what it was */
    assert_int_equal(load(fd, 30), 0);
    close_fd(&fd);
}

/* The kernel is asked now and then, and not about what waited for others of its own connection.
 * Where it matters it is asked of each, but once for what has come by one read. */
static void test_the_kernel_is_asked_seldom(void **state)
{
    uint32_t ms = 0;
    int fd, other;

    (void)state;
    knows_delay = true;
    start_shedding(serve_burn, &ms);
    fd = http_world_connect(&http);
    walk(20);
    delay_asks = 0;
    for (int i = 0; i < 50; i++) /* at one and the same time */
        http_world_send(&http, fd, SPAN(G("/load")));
    assert_int_equal(delay_asks, 1);
    walk(20);
    http_world_send(&http, fd, SPAN(G("/load")));
    assert_int_equal(delay_asks, 2);
    walk(20);
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/load")));
    assert_int_equal(delay_asks, 3); /* the first of them alone */
    http_world_answer(&http, 0);
    (void)http_world_read(&http, fd);
    delay_ms = SHED_MS / 4 + 1; /* it begins to matter */
    walk(20);
    http_world_send(&http, fd, SPAN(G("/load") G("/load") G("/load") G("/load")));
    assert_int_equal(delay_asks, 4);
    other = http_world_connect(&http);
    for (int i = 0; i < 50; i++) {
        http_world_send(&http, other, SPAN(G("/load")));
        http_world_send(&http, fd, SPAN(G("/load")));
    }
    assert_int_equal(delay_asks, 104);
    close_fd(&other);
    close_fd(&fd);
}

/* The worker stood still, as under a debugger: all have waited, and are served at once. */
static void test_a_stall_sheds_nothing(void **state)
{
    uint32_t ms = 0;
    int fd;

    (void)state;
    knows_delay = true;
    start_shedding(serve_burn, &ms);
    fd = http_world_connect(&http);
    assert_int_equal(load(fd, 20), 0);
    fake_clock_jump(&http.world.clock, http.world.loop, 2000);
    delay_ms = 2000;
    for (int i = 0; i < 80; i++) { /* in 80 ms */
        walk(1);
        http_world_send(&http, fd, SPAN(G("/load")));
        assert_string_equal(http_world_answers(&http, fd, 0), "200(burnt)");
    }
    delay_ms = 0;
    assert_int_equal(load(fd, 20), 0);
    close_fd(&fd);
}

/* One that is slow among quick ones is a burst, and nobody's business. */
static void test_a_burst_sheds_nothing(void **state)
{
    uint32_t ms = 0;
    int fd;

    (void)state;
    knows_delay = true;
    start_shedding(serve_burn, &ms);
    fd = http_world_connect(&http);
    for (int i = 0; i < 40; i++) {
        delay_ms = i % 4 == 0 ? 0 : 1000;
        assert_int_equal(load(fd, 1), 0);
    }
    close_fd(&fd);
}

/* One request of /lined, which waits for so long; what comes of it. */
static const char *line_up(int fd, uint32_t ms)
{
    lined = NULL;
    http_world_send(&http, fd, SPAN(G("/lined")));
    if (lined != NULL) {
        walk(ms);
        op_begin(lined);
        op_finish(lined, ERR_OK, NULL);
        assert_int_equal(http_reply(holding, 200, SPAN("text/plain"), SPAN("lined")), ERR_OK);
        http_world_settle(&http);
    }
    return http_world_answers(&http, fd, 0);
}

/* Routes that stand in a line which does not move are refused; others are not. */
static void test_long_lines_shed(void **state)
{
    uint32_t ms = 0;
    int fd;

    (void)state;
    line = (struct line){.kind = "test", .name = "main"};
    start_shedding(serve_burn, &ms);
    http_world_route(&http, "GET", "/lined", serve_lined, 0);
    fd = http_world_connect(&http);
    for (int i = 0; i < 20; i++)
        assert_string_equal(line_up(fd, SHED_MS + 5), "200(lined)"); /* long, and nobody waits */
    assert_true(line.is_standing);
    for (int i = 0; i < 3; i++)
        line_join(&line, http.world.tasks);
    assert_string_equal(line_up(fd, 0), "503");
    assert_int_equal(count_of("shed"), 1);
    assert_logged("path=/lined route=/lined plugin=test status=503");
    http_world_send(&http, fd, SPAN(G("/load") G("/health") G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(burnt)200(well)200(hello)");
    for (int i = 0; i < 3; i++)
        line_quit(&line);
    assert_string_equal(line_up(fd, 0), "200(lined)");
    line_deinit(&line);
    close_fd(&fd);
}

/* A route is of a line where two of its last three requests have joined it. */
static void test_a_route_learns_its_lines(void **state)
{
    struct http_route *route;
    uint32_t ms = 0;
    int fd;

    (void)state;
    line = (struct line){.kind = "test", .name = "main"};
    start_shedding(serve_burn, &ms);
    route = http_world_route(&http, "GET", "/lined", serve_lined, 0);
    fd = http_world_connect(&http);
    assert_string_equal(line_up(fd, 0), "200(lined)");
    assert_int_equal(route->lines, 0);
    assert_string_equal(line_up(fd, 0), "200(lined)");
    assert_int_equal(route->lines, line.bit);
    route->fn = serve_burn;
    route->data = &ms;
    assert_string_equal(line_up(fd, 0), "200(burnt)");
    assert_int_equal(route->lines, line.bit);
    assert_string_equal(line_up(fd, 0), "200(burnt)");
    assert_int_equal(route->lines, 0);
    line_deinit(&line);
    close_fd(&fd);
}

static void test_nothing_is_shed(void **state)
{
    uint32_t ms = 1000;
    int fd;

    (void)state;
    assert_int_equal(http.options.shed_after_ms, 200); /* unless it is asked not to be */
    http.options.shed_after_ms = 0;
    http_world_start(&http);
    http_world_route(&http, "GET", "/load", serve_burn, 0)->data = &ms;
    fd = http_world_connect(&http);
    assert_int_equal(load(fd, 20), 0);
    close_fd(&fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_long_turns_shed),
        TEST(test_long_waits_shed),
        TEST(test_the_kernel_is_asked_seldom),
        TEST(test_a_burst_sheds_nothing),
        TEST(test_a_stall_sheds_nothing),
        TEST(test_long_lines_shed),
        TEST(test_a_route_learns_its_lines),
        TEST(test_nothing_is_shed),
    };

    log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
