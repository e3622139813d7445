/* Goal: what workers show is added up by name, gauges only of those that live; a page that a plugin
 * has ruined neither crashes the master nor spoils the sums. */
#include "lib/test.h"
#include "server/census.h"
#include "server/grid.h"

#include <stdio.h>
#include <string.h>

static struct blame *page;
static struct board *board;
static struct census census;

static int set_up(void **state)
{
    (void)state;
    page = blame_create();
    board = board_create();
    census_init(&census);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    blame_destroy(page);
    board_destroy(board);
    board_destroy(NULL);
    census_deinit(&census);
    census_deinit(&census);
    return 0;
}

static const struct census_route *route(const char *plugin, const char *text)
{
    for (uint32_t i = 0; i < census.routes.count; i++)
        if (strcmp(census_route(&census, i)->plugin, plugin) == 0 &&
            strcmp(census_route(&census, i)->route, text) == 0)
            return census_route(&census, i);
    return NULL;
}

static void show(void)
{
    uint32_t index = blame_name(page, SPAN("books"), SPAN("GET /books"));

    blame_request(page, index, 200, 100);
    blame_request(page, index, 404, 100);
    blame_request(page, index, 503, 100);
    blame_request(page, index, 499, 100);
    blame_request(page, BLAME_HOST, 404, 1);
    page->names[index].tally.live = 3;
    page->names[index].tally.longest_ticks = 7;
    board->http.requests = 5;
    board->http.connections_open = 2;
    board->pool_count = 1;
    snprintf(board->pools[0].name, BOARD_NAME_SIZE, "main");
    board->pools[0].counts.statements = 10;
    board->pools[0].counts.sessions = 4;
    board->statement_count = 1;
    snprintf(board->statements[0].pool, BOARD_NAME_SIZE, "main");
    snprintf(board->statements[0].name, BOARD_NAME_SIZE, "by_id");
    histogram_add(&board->statements[0].times, 50);
    board->upstream_count = 1;
    snprintf(board->upstreams[0].name, BOARD_NAME_SIZE, "partner");
    board->upstreams[0].counts.calls = 6;
    board->upstreams[0].counts.idle = 1;
}

static void test_sums_and_gauges(void **state)
{
    const struct census_route *row;
    struct census past;

    (void)state;
    show();
    census_init(&past);
    census_add(&past, page, board, false);
    census_merge(&census, &past);
    census_deinit(&past);
    census_add(&census, page, board, true);
    row = route("books", "GET /books");
    assert_non_null(row);
    assert_int_equal(row->tally.latency.count, 8);
    assert_int_equal(row->tally.refused, 2);
    assert_int_equal(row->tally.failed, 2);
    assert_int_equal(row->tally.gone, 2);
    assert_int_equal(row->tally.latency.count, 8);
    assert_int_equal(row->tally.live, 3);
    assert_int_equal(row->tally.longest_ticks, 7);
    assert_int_equal(route("", "")->tally.refused, 2);
    assert_int_equal(census.http.requests, 10);
    assert_int_equal(census.http.connections_open, 2);
    assert_int_equal(census.pools.count, 1);
    assert_int_equal(((struct board_pool *)census.pools.at)->counts.statements, 20);
    assert_int_equal(((struct board_pool *)census.pools.at)->counts.sessions, 4);
    assert_int_equal(((struct board_statement *)census.statements.at)->times.count, 2);
    assert_int_equal(((struct board_upstream *)census.upstreams.at)->counts.calls, 12);
    assert_int_equal(((struct board_upstream *)census.upstreams.at)->counts.idle, 1);
}

static void test_who_was_blamed(void **state)
{
    struct blame_culprit culprit = {.plugin = "books", .route = "GET /books"};
    static struct quarantine book;

    (void)state;
    show();
    quarantine_init(&book, 1, 1000);
    (void)quarantine_note_crash(&book, &culprit, 1);
    quarantine_note_stall(&book, &culprit, 1);
    quarantine_note_stall(&book, &culprit, 2);
    quarantine_clear(&book, 2, 1000);
    census_add(&census, page, board, true);
    census_blame(&census, &book);
    assert_int_equal(route("books", "GET /books")->crashes, 1); /* counts never go back */
    assert_int_equal(route("books", "GET /books")->stalls, 2);
    assert_false(route("books", "GET /books")->is_closed);
    quarantine_deinit(&book);
}

static void test_ruined_pages(void **state)
{
    (void)state;
    show();
    memset(page, 0xff, sizeof *page);
    memset(board, 0xff, sizeof *board);
    census_add(&census, page, board, true);
    assert_int_equal(census.routes.count, 0); /* no number of it can be believed */
    assert_true(census.pools.count <= 1);     /* all have one name, without an end */
    assert_int_equal(strlen(((struct board_pool *)census.pools.at)->name), BOARD_NAME_SIZE - 1);
}

static const struct http_reason *reason(const char *name)
{
    for (uint32_t i = 0; i < census.reasons.count; i++) {
        const struct http_reason *row = (const struct http_reason *)census.reasons.at + i;

        if (strcmp(row->name, name) == 0)
            return row;
    }
    return NULL;
}

static void test_reasons(void **state)
{
    struct http_reasons *reasons = &board->http.reasons;
    struct census past;
    char name[HTTP_REASON_SIZE + 20];

    (void)state;
    http_reasons_add(reasons, "deadline");
    http_reasons_add(reasons, "deadline");
    for (unsigned i = 0; i < 2 * HTTP_REASONS_MAX; i++) {
        snprintf(name, sizeof name, "reason_%u", i);
        http_reasons_add(reasons, name);
    }
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    snprintf(reasons->at[1].name, sizeof reasons->at[1].name, "no\ntoken");
    census_init(&past);
    census_add(&past, page, board, false);
    census_merge(&census, &past);
    census_deinit(&past);
    census_add(&census, page, board, true);
    assert_int_equal(reason("deadline")->count, 4);
    assert_int_equal(reason("reason_1")->count, 2);
    /* The first has 62 neighbours; all further ones are one. */
    assert_int_equal(reason("other")->count, 2 * (2 * HTTP_REASONS_MAX - (HTTP_REASONS_MAX - 2)));
    assert_null(reason("no\ntoken"));
    memset(reasons, 0, sizeof *reasons);
    http_reasons_add(reasons, name);
    http_reasons_add(reasons, name);
    assert_int_equal(reasons->at[0].count, 2);
    assert_int_equal(strlen(reasons->at[0].name), HTTP_REASON_SIZE - 1);
}

static void test_many_names(void **state)
{
    char name[32];

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "GET /%u", i);
        blame_request(page, blame_name(page, SPAN("many"), span_of(name)), 200, i);
    }
    census_add(&census, page, board, true);
    census_add(&census, page, board, true);
    assert_int_equal(census.routes.count, 2001);
    assert_int_equal(route("many", "GET /1999")->tally.latency.count, 2);
}

static void test_a_grid(void **state)
{
    struct grid grid = {.row = 0};
    struct buf out;

    (void)state;
    buf_init(&out, NULL);
    grid_row(&grid);
    grid_cell(&grid, "NAME");
    grid_cell(&grid, "N");
    grid_cell(&grid, "TEXT");
    grid_row(&grid);
    grid_cell(&grid, "a\n\x01z");
    grid_cell(&grid, "%d", 1000);
    grid_cell(&grid, "x");
    grid_row(&grid);
    grid_cell(&grid, "longer \xc3\xa4");
    grid_cell(&grid, "%d", 7);
    grid_cell(&grid, "-");
    grid_print(&grid, &out);
    buf_append(&out, (struct span){"", 1});
    assert_string_equal(out.data, "NAME         N  TEXT\n"
                                  "a??z      1000  x\n"
                                  "longer \xc3\xa4     7  -\n\n");
    buf_release(&out);
    grid_row(&grid);
    grid_cell(&grid, "NOTHING BELOW");
    grid_print(&grid, &out);
    assert_int_equal(out.len, 0);
    for (unsigned i = 0; i < 2; i++) {
        grid_row(&grid);
        for (unsigned column = 0; column < GRID_COLUMNS_MAX + 5; column++)
            grid_cell(&grid, "%u", column);
    }
    grid_print(&grid, &out);
    assert_true(out.len > 0);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sums_and_gauges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_was_blamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ruined_pages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reasons, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_names, set_up, tear_down),
        cmocka_unit_test(test_a_grid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
