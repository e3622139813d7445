/* Goal: what would change a session that others share is refused with what to use instead, in
 * these words, as a text that is run and as one that is declared, which names the statement. */
#include "lib/test.h"
#include "weft_test.h"

static weft_pg *db;

/* Runs the body, and answers what is wrong with it. */
static weft_status run(weft_ctx *ctx, void *self)
{
    weft_op *done = weft_run_sql(ctx, db, weft_body(ctx).ptr, 0, WEFT_NO_ARGS);
    weft_status status = weft_await(done);

    (void)self;
    if (status != WEFT_E_INVALID)
        return status;
    return weft_reply(ctx, 200, "text/plain", weft_op_error(done));
}

/* Declares the statement of its settings. */
static weft_status init(weft_host *host, void **self)
{
    weft_stmt *stmt;
    weft_str sql;

    (void)self;
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_setting(host, "sql", "", &sql));
    if (sql.len > 0)
        WEFT_TRY(weft_declare(host, db, "its_name", sql.ptr, 0, &stmt));
    return weft_route(host, "POST", "/run", run);
}

WEFT_PLUGIN("refusals", "1.0", init, NULL, NULL);

static const char transactions[] =
    "transactions are begun and ended by weft_begin(), weft_commit() and weft_rollback(), or by "
    "weft_transact(), on a session of their own";
static const char pinned[] = "it needs a session of its own: run it in a transaction, by "
                             "weft_transact() or weft_begin()";
static const char local[] = "it would change a session that others share: use SET LOCAL in a "
                            "transaction, or the role's or the database's settings";
static const char listening[] = "channels are listened to by weft_listen()";
static const char copying[] = "COPY is run by weft_copy_in() or weft_copy_out()";
static const char preparing[] = "statements are prepared by the pool itself: declare them by "
                                "weft_declare()";
static const char temporary[] = "temporary objects belong to a session: make them ON COMMIT DROP "
                                "in a transaction, by weft_transact() or weft_begin()";
static const char empty[] = "there is no statement in it";

static const struct {
    const char *sql, *advice;
} refusals[] = {
    {"begin", transactions},
    {"start transaction", transactions},
    {"commit", transactions},
    {"end", transactions},
    {"abort", transactions},
    {"rollback", transactions},
    {"savepoint a", pinned},
    {"release a", pinned},
    {"lock table t", pinned},
    {"declare c cursor for select 1", pinned},
    {"fetch c", pinned},
    {"move c", pinned},
    {"close c", pinned},
    {"set search_path to x", local},
    {"SET local search_path to x", local},
    {"reset all", local},
    {"discard all", local},
    {"load 'x'", local},
    {"listen x", listening},
    {"unlisten *", listening},
    {"copy t to stdout", copying},
    {"prepare p as select 1", preparing},
    {"execute p", preparing},
    {"deallocate p", preparing},
    {"do $$ begin end $$", pinned},
    {"create temp table t (i int)", temporary},
    {"select 1 into temp x", temporary},
    {"create table pg_temp.y (a int)", temporary},
    {"/* nothing */", empty},
};

static void each_is_told_what_to_use(void **state)
{
    weft_test *t = weft_test_start(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        weft_test_is(weft_test_ask(t, "POST", "/run", NULL, refusals[i].sql), 200,
                     refusals[i].advice);
    assert_int_equal(weft_test_end(t), 0);
}

static void a_declared_one_is_named(void **state)
{
    char settings[128], wanted[256];

    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const char *problem;
        weft_test *t;

        (void)snprintf(settings, sizeof settings, "sql = %s\n", refusals[i].sql);
        (void)snprintf(wanted, sizeof wanted, "statement its_name: %s", refusals[i].advice);
        t = weft_test_start(settings);
        problem = weft_test_problem(t);
        if (problem == NULL || strstr(problem, wanted) == NULL)
            fail_msg("%s: %s, not %s", refusals[i].sql, problem, wanted);
        assert_int_equal(weft_test_end(t), 0);
    }
}

static void all_else_is_declared(void **state)
{
    weft_test *t = weft_test_start("sql = select 1\n");

    (void)state;
    assert_null(weft_test_problem(t));
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_told_what_to_use),
        cmocka_unit_test(a_declared_one_is_named),
        cmocka_unit_test(all_else_is_declared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
