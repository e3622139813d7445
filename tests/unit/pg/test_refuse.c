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
        "create or replace local temp view v as select 1",
        "select 1 into temp x",
        "select 1 into temporary table x from y",
        "select 1 INTO LOCAL TEMP x",
        "(select 1 into global temporary x)",
        "select 'it''s' into /* x */ temp\n\"from\" from y",
        "select e'\\'' into temp x, e'\\''",
        "select $$'$$, $1, $a$ $$ $a$ into temp x",
        "select a$b$c into temp x --$b$",
        "with y as (insert into temp values (1) returning a) select a into temp x from y",
        "create table pg_temp.y (a int)",
        "create table \"pg_temp\" . y (a int)",
        "create function PG_TEMP.f() returns int language sql as 'select 1'",
        "select 1 as a into pg_temp.x",
        "explain analyze create temp table z as select 1",
        "EXPLAIN (analyze) create local temp table z as select 1",
        "explain analyze select 1 into temp z",
        "do $$ begin end $$",
        "DO language plpgsql 'begin end'",
        NULL,
    };

    (void)state;
    check(everywhere, true, true);
    check(shared, true, false);
}

/* It is neither a statement that is prepared nor one of ours that ends a transaction. */
static void test_two_phases_are_none(void **state)
{
    static const struct {
        const char *sql, *advice;
    } texts[] = {
        {"prepare transaction 'x'", "two-phase commit"},
        {"COMMIT /* x */ PREPARED 'x'", "two-phase commit"},
        {"rollback prepared 'x'", "two-phase commit"},
        {"prepare x as select 1", "weft_declare()"},
        {"commit", "weft_begin(), weft_commit()"},
        {"rollback", "weft_begin(), weft_commit()"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *advice = pg_is_refused(span_of(texts[i].sql));

        assert_non_null(advice);
        if (strstr(advice, texts[i].advice) == NULL)
            fail_msg("%s: %s", texts[i].sql, advice);
        assert_ptr_equal(pg_is_refused_in_transaction(span_of(texts[i].sql)), advice);
    }
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
        "call p()",
        "explain select 1",
        "vacuum t",
        "beginning",
        "settle",
        "begin2",
        "do$$",
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

static void test_temp_is_a_name_like_others(void **state)
{
    static const char *const texts[] = {
        "select temp from weather",
        "select temp, temporary from weather into_temp",
        "select 1 into temp",
        "select 1 into temp;",
        "select 1 into temp from x",
        "select 1 into temp where true",
        "select 1 into temp union select 2",
        "select 1 into temp.x from y",
        "select 1 into local from temp",
        "insert into temp values (1)",
        "insert into temp select 1",
        "insert into temp as t values (1)",
        "insert into temp (temp) values (1)",
        "insert /* x */ INTO temp default values",
        "merge into temp t using s on true when matched then do nothing",
        "import foreign schema s from server x into temp options (a 'b')",
        "update temp set temp = 1",
        "delete from temp",
        "create table temp (temporary int)",
        "create or replace function temp() returns int language sql as 'select 1'",
        "create view v as select temp from temp",
        "select ' into temp x'",
        "select 'it''s into temp x', e'\\' into temp x', E'\\\\', 'pg_temp.x'",
        "select $$ into temp x $$, $_1$ pg_temp.y $$ $_1$",
        "select \"a into temp b\", \"x\"\" into temp y\" from t",
        "select 1 /* into temp x /* */ pg_temp.y */ -- into temp x",
        "select 1 -- it's\n, 'into temp x'",
        "select $1::text, $2, 'temp' from pg_temp",
        "select 'into temp x never ends",
        "select $a$ into temp x never ends $b$",
        "select \"into temp x never ends",
        "select e'into temp x never ends\\",
        "select e",
        "temp$",
        "tem",
        "p",
        "explain select temp from create_temp",
        NULL,
    };

    (void)state;
    check(texts, false, false);
}

/* What may commit in the middle is not, and neither is what we do not know. */
static void test_our_savepoints_are_ours(void **state)
{
    static const char *const ours[] = {
        "savepoint weft_s1",
        "release WEFT_S1",
        "release savepoint \"weft_s12\"",
        "rollback to weft_s1",
        "rollback work to savepoint /* x */ weft_s2",
        NULL,
    };
    static const char *const others[] = {
        "savepoint s1",     "savepoint weft",
        "release s1",       "rollback to savepoint \"s1\"",
        "select 'weft_s1'", NULL,
    };

    (void)state;
    check(ours, true, true);
    for (const char *const *text = others; *text != NULL; text++)
        if (pg_is_refused_in_transaction(span_of(*text)) != NULL)
            fail_msg("%s", *text);
}

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

static void check_step(const char *sql, enum pg_savepoint_step expected, const char *expected_name)
{
    struct span name = SPAN("?");

    if (pg_savepoint_step(span_of(sql), &name) != expected)
        fail_msg("another step: %s", sql);
    if (!span_equal(name, span_of(expected_name)))
        fail_msg("%s: %.*s", sql, SPAN_ARG(name));
}

static void test_what_a_text_does_to_savepoints(void **state)
{
    (void)state;
    check_step("select 1", PG_SAVEPOINT_NONE, "?");
    check_step("", PG_SAVEPOINT_NONE, "?");
    check_step("rollback", PG_SAVEPOINT_NONE, "?");
    check_step("rollback work", PG_SAVEPOINT_NONE, "?");
    check_step("savepoint a", PG_SAVEPOINT_MADE, "a");
    check_step("/* x */ SAVEPOINT A;", PG_SAVEPOINT_MADE, "A");
    check_step("savepoint \"a b\"", PG_SAVEPOINT_MADE, "\"a b\"");
    check_step("release a", PG_SAVEPOINT_RELEASED, "a");
    check_step("Release Savepoint a;", PG_SAVEPOINT_RELEASED, "a");
    check_step("release savepoint;", PG_SAVEPOINT_RELEASED, "savepoint");
    check_step("rollback to a", PG_SAVEPOINT_GONE_BACK_TO, "a");
    check_step("ROLLBACK /**/ WORK to -- x\n savepoint b1", PG_SAVEPOINT_GONE_BACK_TO, "b1");
    check_step("rollback transaction to savepoint", PG_SAVEPOINT_GONE_BACK_TO, "savepoint");
    check_step("savepoint", PG_SAVEPOINT_MADE, "");
}

/* NULL: nothing is wrong. */
static void check_copy(const char *sql, bool is_in, const char *expected)
{
    const char *problem = pg_is_refused_copy(span_of(sql), is_in);

    if (expected == NULL ? problem != NULL : problem == NULL || strstr(problem, expected) == NULL)
        fail_msg("%s, %s: %s", sql, is_in ? "in" : "out", problem != NULL ? problem : "fine");
}

/* It would be done by the server alone, or the other way, and then nobody could be written to, or
 * read. */
static void test_copies_that_go_elsewhere(void **state)
{
    static const char *const in[] = {
        "COPY t FROM STDIN (format csv)",
        "copy/**/t(a, b)/* to 'x' */from -- 'x'\nstdin",
        "copy binary s.t from stdin",
        "copy s.to from stdin",
        "copy t from stdout", /* which is STDIN, as the server sees it */
        "copy t from stdin where a > 'to'",
        "; copy t from stdin",
        NULL,
    };
    static const char *const out[] = {
        "copy t to stdout",
        "copy t to stdin", /* the same */
        "copy (select a from t) to stdout",
        "copy (select ')' from t where a in (select 1 from u)) to stdout",
        "copy (select 1 from stdin) to stdout",
        "copy s . from to stdout",
        "copy \"from\" to stdout",
        NULL,
    };
    static const char *const elsewhere[] = {
        "copy t to 'file'",
        "copy t from 'file' (format csv)",
        "copy t from e'file'",
        "copy t to $$file$$",
        "copy t to program 'cat > file'",
        "COPY t FROM/**/Program 'cat file'",
        "copy (select 1 from stdin) to 'file'",
        "copy (select a from (select 1 as a) as stdin) to program 'cat'",
        "copy t (a) from 'stdin'",
        "copy s.to to 'file'",
        "copy \"t to stdout\" to 'file'",
        "copy t from \"stdin\"",
        "select 1",
        "",
        NULL,
    };

    (void)state;
    for (const char *const *text = in; *text != NULL; text++) {
        check_copy(*text, true, NULL);
        check_copy(*text, false, "COPY FROM STDIN: it is to be written to");
    }
    for (const char *const *text = out; *text != NULL; text++) {
        check_copy(*text, false, NULL);
        check_copy(*text, true, "COPY TO STDOUT: it is to be read");
    }
    for (const char *const *text = elsewhere; *text != NULL; text++) {
        check_copy(*text, true, "COPY");
        check_copy(*text, false, "COPY");
    }
    check_copy("copy t", true, NULL); /* for the server to refuse */
    check_copy("copy t", false, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_text_does_to_savepoints),
        cmocka_unit_test(test_what_changes_a_session_is_refused),
        cmocka_unit_test(test_two_phases_are_none),
        cmocka_unit_test(test_keywords_cannot_be_hidden),
        cmocka_unit_test(test_no_statement_is_refused),
        cmocka_unit_test(test_all_else_is_fine),
        cmocka_unit_test(test_temp_is_a_name_like_others),
        cmocka_unit_test(test_our_savepoints_are_ours),
        cmocka_unit_test(test_copies_that_go_elsewhere),
        cmocka_unit_test(test_what_is_undone_by_its_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
