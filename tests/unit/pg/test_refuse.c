/* Goal: what would change a session that others share is refused, however its keyword is hidden,
 *       and nothing else is. */
#include "lib/test.h"
#include "pg/pool.h"

#include <string.h>

static void check(const char *const *texts, bool is_refused, bool is_refused_in_transaction)
{
    for (; *texts != NULL; texts++) {
        if ((pg_is_refused(span_of(*texts)) != NULL) != is_refused)
            fail_msg("shared: %s", *texts);
        if ((pg_is_refused_in_transaction(span_of(*texts)) != NULL) != is_refused_in_transaction)
            fail_msg("in a transaction: %s", *texts);
    }
}

static void test_what_changes_a_session_is_refused(void **state)
{
    static const char *const everywhere[] = {
        "begin",
        "BEGIN isolation level serializable",
        "Start Transaction",
        "commit",
        "END",
        "abort",
        "rollback",
        "rollback work",
        "rollback prepared 'x'",
        "set search_path = x",
        "set session authorization x",
        "reset all",
        "discard all",
        "load 'x'",
        "listen x",
        "unlisten *",
        "copy t to stdout",
        "COPY(select 1) to stdout",
        "prepare x as select 1",
        "prepare transaction 'x'",
        "execute x",
        "deallocate all",
        NULL,
    };
    static const char *const shared[] = {
        "savepoint a",
        "release a",
        "rollback to a",
        "ROLLBACK TRANSACTION TO SAVEPOINT a",
        "rollback work to a",
        "set local statement_timeout = 5",
        "set transaction read only",
        "SET CONSTRAINTS all deferred",
        "lock table t",
        "declare c cursor for select 1",
        "fetch c",
        "move c",
        "close c",
        "create temp table t (i int)",
        "create temporary view t as select 1",
        "create local temp table t (i int)",
        "create or replace temp view v as select 1",
        "create global temporary table t (i int)",
        NULL,
    };

    (void)state;
    check(everywhere, true, true);
    check(shared, true, false);
}

static void test_keywords_cannot_be_hidden(void **state)
{
    static const char *const texts[] = {
        "  \t\r\n\f\vbegin",
        ";begin",
        " ; ; commit",
        "-- x\nbegin",
        "-- x\rbegin",
        "--\nbegin",
        "/* x */begin",
        "/* x /* nested */ still */ begin",
        "/**/-- y\n/***/;BEGIN",
        "begin;",
        "begin--x",
        "begin/**/",
        "set/**/search_path = x",
        "create /* x */ temp_is_not_it.t; ",
        NULL,
    };

    (void)state;
    for (size_t i = 0; texts[i + 1] != NULL; i++)
        assert_non_null(pg_is_refused(span_of(texts[i])));
    assert_null(pg_is_refused(SPAN("create /* x */ temp_is_not_it.t")));
    assert_non_null(pg_is_refused(SPAN("create /* x */ temp /**/ table t (i int)")));
}

static void test_no_statement_is_refused(void **state)
{
    static const char *const texts[] = {"",      " \n",           ";", ";;  ;", "--", "-- select",
                                        "/* */", "/* never ends", NULL};

    (void)state;
    check(texts, true, true);
}

static void test_all_else_is_fine(void **state)
{
    static const char *const texts[] = {
        "select 1",
        "(select 1)",
        "SELECT * from t for update",
        "with x as (select 1) select * from x",
        "insert into t values (1)",
        "update t set a = 1",
        "delete from t",
        "merge into t using s on true when matched then do nothing",
        "values (1)",
        "table t",
        "create table t (i int)",
        "create table temp (i int)",
        "create or replace view v as select 1",
        "drop table t",
        "alter table t add x int",
        "notify x",
        "do $$ begin end $$",
        "call p()",
        "explain select 1",
        "vacuum t",
        "beginning",
        "settle",
        "commit_all()",
        "setx y",
        "copying",
        "/ select",
        "- select",
        "*/ select 1",
        "$1",
        NULL,
    };

    (void)state;
    check(texts, false, false);
}

/* What may commit in the middle is not, and neither is what we do not know. */
static void test_what_is_undone_by_its_error(void **state)
{
    static const char *const is_undone[] = {
        "select 1",
        "/* call */ SELECT 1",
        "insert into t values (1)",
        "Update t set a = 1",
        "delete from t",
        "merge into t using u on true when matched then do nothing",
        "values (1)",
        "with x as (select 1) select * from x",
        "table t",
        "((select 1) union select 2)",
        NULL,
    };
    static const char *const is_not[] = {
        "call p()",   "do $$ begin commit; end $$",
        "vacuum",     "create index concurrently on t (a)",
        "selection",  "explain analyze select 1",
        "()",         "",
        "(call p())", NULL,
    };

    (void)state;
    for (const char *const *text = is_undone; *text != NULL; text++)
        if (!pg_is_undone_by_error(span_of(*text)))
            fail_msg("%s", *text);
    for (const char *const *text = is_not; *text != NULL; text++)
        if (pg_is_undone_by_error(span_of(*text)))
            fail_msg("%s", *text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_changes_a_session_is_refused),
        cmocka_unit_test(test_keywords_cannot_be_hidden),
        cmocka_unit_test(test_no_statement_is_refused),
        cmocka_unit_test(test_all_else_is_fine),
        cmocka_unit_test(test_what_is_undone_by_its_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
