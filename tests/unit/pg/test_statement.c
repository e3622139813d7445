/* Goal: statements are found again by name, id and text; a session's ad-hoc ones are bounded, and
 *       the least recently used goes, unless it is in flight. */
#include "base/mem.h"
#include "lib/test.h"
#include "pg/statement.h"

#include <stdio.h>
#include <string.h>

static void test_declaring_twice_is_one_statement(void **state)
{
    struct pg_statements statements = {0};
    struct pg_statement *first, *second, *third;

    (void)state;
    assert_int_equal(pg_statements_declare(&statements, NULL, "one", "select 1", 0, &first),
                     ERR_OK);
    assert_int_equal(pg_statements_declare(&statements, NULL, "two", "select 1", 0, &second),
                     ERR_OK);
    assert_int_equal(pg_statements_declare(&statements, NULL, "one", "select 1", 0, &third),
                     ERR_OK);
    assert_ptr_equal(first, third);
    assert_int_equal(first->id, 0);
    assert_int_equal(second->id, 1);
    assert_int_equal(pg_statements_declare(&statements, NULL, "one", "select 2", 0, &third),
                     ERR_EXISTS);
    assert_int_equal(
        pg_statements_declare(&statements, NULL, "one", "select 1", PG_READ_ONLY, &third),
        ERR_EXISTS);
    assert_string_equal(pg_statement_name(second), "two");
    pg_statements_deinit(&statements);
    pg_statements_deinit(&statements);
}

static void test_a_declared_statement_is_found_by_its_id(void **state)
{
    struct pg_statements statements = {0};
    struct pg_prepared_set set;
    struct pg_prepared *prepared[40];
    struct pg_statement *statement;

    (void)state;
    pg_prepared_set_init(&set);
    for (uint32_t i = 0; i < 40; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "s%u", i);
        assert_int_equal(pg_statements_declare(&statements, NULL, name, "select 1", 0, &statement),
                         ERR_OK);
        prepared[i] = pg_prepared_declared(&set, statement);
        assert_int_equal(prepared[i]->state, PG_UNPREPARED);
        assert_false(prepared[i]->is_ad_hoc);
    }
    for (uint32_t i = 0; i < 40; i++)
        assert_ptr_equal(prepared[i], pg_prepared_declared(&set, statements.list[i]));
    pg_prepared_set_deinit(&set);
    pg_statements_deinit(&statements);
}

static struct pg_prepared *use(struct pg_prepared_set *set, uint32_t number, uint32_t *evicted)
{
    char sql[32];

    (void)snprintf(sql, sizeof sql, "select %u", number);
    *evicted = pg_prepared_has_room(set, span_of(sql)) ? 0 : pg_prepared_evict(set);
    return pg_prepared_ad_hoc(set, span_of(sql));
}

static void test_the_least_recently_used_text_goes(void **state)
{
    struct pg_prepared_set set;
    struct pg_prepared *first, *second;
    uint32_t evicted;

    (void)state;
    pg_prepared_set_init(&set);
    for (uint32_t i = 0; i < PG_AD_HOC_MAX; i++) {
        struct pg_prepared *prepared = use(&set, i, &evicted);

        assert_int_equal(evicted, 0);
        pg_prepared_begin(&set, prepared);
        prepared->state = PG_PREPARED;
        assert_int_equal(prepared->number, i + 1);
    }
    first = use(&set, 0, &evicted);
    second = use(&set, 1, &evicted);
    assert_int_equal(evicted, 0);
    first->users = 1; /* in flight */
    use(&set, 1000, &evicted);
    assert_int_equal(evicted, 3); /* the third: first and second were used since */
    for (uint32_t i = 3; i < PG_AD_HOC_MAX; i++)
        use(&set, 1000 + i, &evicted);
    assert_int_equal(set.ad_hoc.count, PG_AD_HOC_MAX);
    use(&set, 2000, &evicted);
    assert_int_equal(evicted, 2); /* not the first, which is in flight */
    assert_ptr_equal(first, use(&set, 0, &evicted));
    assert_ptr_not_equal(second, NULL);
    pg_prepared_set_deinit(&set);
}

static void test_texts_have_no_room_beyond_the_bytes(void **state)
{
    enum { FULL = PG_AD_HOC_BYTES_MAX / PG_AD_HOC_TEXT_MAX };
    static char sql[PG_AD_HOC_TEXT_MAX];
    const struct span text = {sql, sizeof sql};
    struct pg_prepared_set set;

    (void)state;
    pg_prepared_set_init(&set);
    for (int i = 0; i < FULL; i++) {
        (void)snprintf(sql, sizeof sql, "select %d", i);
        assert_true(pg_prepared_has_room(&set, text));
        pg_prepared_ad_hoc(&set, text)->users = 1;
    }
    assert_int_equal(set.ad_hoc_bytes, PG_AD_HOC_BYTES_MAX);
    assert_true(pg_prepared_has_room(&set, text));
    assert_false(pg_prepared_has_room(&set, SPAN("x")));
    assert_int_equal(pg_prepared_evict(&set), 0); /* all are in flight */
    assert_false(pg_prepared_has_room(&set, SPAN("x")));
    pg_prepared_find(&set, text)->users = 0;
    assert_int_equal(pg_prepared_evict(&set), 0); /* it has no name yet */
    assert_null(pg_prepared_find(&set, text));
    assert_true(pg_prepared_has_room(&set, text));
    assert_int_equal(set.ad_hoc_bytes, PG_AD_HOC_BYTES_MAX - PG_AD_HOC_TEXT_MAX);
    pg_prepared_set_deinit(&set);
}

static void test_each_preparing_has_a_new_name(void **state)
{
    struct pg_prepared_set set;
    struct pg_prepared *prepared;
    char name[PG_PREPARED_NAME_SIZE];
    uint32_t evicted;

    (void)state;
    pg_prepared_set_init(&set);
    prepared = use(&set, 1, &evicted);
    pg_prepared_begin(&set, prepared);
    assert_int_equal(prepared->state, PG_PREPARING);
    prepared->state = PG_UNPREPARED;
    pg_prepared_begin(&set, prepared);
    pg_prepared_name(prepared->number, name);
    assert_string_equal(name, "w2");
    pg_prepared_name(UINT32_MAX, name);
    assert_string_equal(name, "w4294967295");
    pg_prepared_set_deinit(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_declaring_twice_is_one_statement),
        cmocka_unit_test(test_a_declared_statement_is_found_by_its_id),
        cmocka_unit_test(test_the_least_recently_used_text_goes),
        cmocka_unit_test(test_texts_have_no_room_beyond_the_bytes),
        cmocka_unit_test(test_each_preparing_has_a_new_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
