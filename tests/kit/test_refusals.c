/* Goal: what would change a session that others share is refused with what to use instead, in
 * these words, as a text that is run and as one that is declared: there already, naming the
 * statement, where no transaction can run it either. */
#include "lib/test.h"
#include "weft_test.h"

static weft_pg *db;
static weft_stmt *stmt;

/* Runs the body, and answers what is wrong with it. */
static weft_status run(weft_ctx *ctx, void *self)
{
    weft_op *done = stmt != NULL ? weft_run(ctx, db, stmt, WEFT_NO_ARGS)
                                 : weft_run_sql(ctx, db, weft_body(ctx).ptr, 0, WEFT_NO_ARGS);
    weft_status status = weft_await(done);

    (void)self;
    if (status != WEFT_E_INVALID)
        return status;
    return weft_reply(ctx, 200, "text/plain", weft_op_error(done));
}

/* Declares the statement of its settings. */
static weft_status init(weft_host *host, void **self)
{
    weft_str sql;

    (void)self;
    stmt = NULL;
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
    int is_for_transactions;
} refusals[] = {
    {"begin", transactions, 0},
    {"start transaction", transactions, 0},
    {"commit", transactions, 0},
    {"end", transactions, 0},
    {"abort", transactions, 0},
    {"rollback", transactions, 0},
    {"savepoint a", pinned, 1},
    {"release a", pinned, 1},
    {"lock table t", pinned, 1},
    {"declare c cursor for select 1", pinned, 1},
    {"fetch c", pinned, 1},
    {"move c", pinned, 1},
    {"close c", pinned, 1},
    {"set search_path to x", local, 0},
    {"SET local search_path to x", local, 1},
    {"reset all", local, 0},
    {"discard all", local, 0},
    {"load 'x'", local, 0},
    {"listen x", listening, 0},
    {"unlisten *", listening, 0},
    {"copy t to stdout", copying, 0},
    {"prepare p as select 1", preparing, 0},
    {"execute p", preparing, 0},
    {"deallocate p", preparing, 0},
    {"do $$ begin end $$", pinned, 1},
    {"create temp table t (i int)", temporary, 1},
    {"select 1 into temp x", temporary, 1},
    {"create table pg_temp.y (a int)", temporary, 1},
    {"/* nothing */", empty, 0},
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

/* A test with the statement of that number declared. */
static weft_test *start_with(size_t number)
{
    char settings[128];

    (void)snprintf(settings, sizeof settings, "sql = %s\n", refusals[number].sql);
    return weft_test_start(settings);
}

static void a_declared_one_is_named(void **state)
{
    char wanted[256];

    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        weft_test *t = start_with(i);
        const char *problem = weft_test_problem(t);

        (void)snprintf(wanted, sizeof wanted, "statement its_name: %s", refusals[i].advice);
        if (refusals[i].is_for_transactions)
            assert_null(problem);
        else if (problem == NULL || strstr(problem, wanted) == NULL)
            fail_msg("%s: %s, not %s", refusals[i].sql, problem, wanted);
        assert_int_equal(weft_test_end(t), 0);
    }
}

static void one_for_transactions_is_refused_elsewhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        weft_test *t;

        if (!refusals[i].is_for_transactions)
            continue;
        t = start_with(i);
        weft_test_is(weft_test_ask(t, "POST", "/run", NULL, ""), 200, refusals[i].advice);
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
        cmocka_unit_test(one_for_transactions_is_refused_elsewhere),
        cmocka_unit_test(all_else_is_declared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
