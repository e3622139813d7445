/* Goal: each error has a status with its HTTP status, each status of the ABI leads back to one
 * error, and what nobody knows is answered all the same. */
#include "lib/test.h"
#include "plugin/inside.h"

static void test_each_error_has_a_status(void **state)
{
    (void)state;
    for (enum err err = ERR_OK; err < ERR_COUNT; err++) {
        weft_status status = abi_status(err);

        assert_int_equal(status == WEFT_OK, err == ERR_OK);
        assert_int_equal(abi_status(abi_err(status)), status);
        if (status != WEFT_OK)
            assert_in_range(abi_code(status), 400, 504);
    }
}

/* As the comments in weft.h say. */
static void test_clients_get_what_the_header_says(void **state)
{
    static const struct {
        weft_status status;
        uint32_t code;
    } table[] = {{WEFT_E_INVALID, 500},    {WEFT_E_STATE, 500},         {WEFT_E_UNSUPPORTED, 500},
                 {WEFT_E_CANCELED, 499},   {WEFT_E_DEADLINE, 504},      {WEFT_E_OVERLOAD, 503},
                 {WEFT_E_DB_BUSY, 503},    {WEFT_E_DB_DOWN, 503},       {WEFT_E_DB, 500},
                 {WEFT_E_DB_RETRY, 503},   {WEFT_E_DB_CONSTRAINT, 409}, {WEFT_E_DB_VALUE, 400},
                 {WEFT_E_UP_BUSY, 503},    {WEFT_E_UP_CONNECT, 502},    {WEFT_E_UP_RESET, 502},
                 {WEFT_E_UP_TIMEOUT, 504}, {WEFT_E_UP_TOO_BIG, 502},    {WEFT_E_BAD_REQUEST, 400},
                 {WEFT_E_NOT_FOUND, 404},  {WEFT_E_TOO_BIG, 413}};

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_int_equal(abi_code(table[i].status), table[i].code);
        assert_int_equal(abi_status(abi_err(table[i].status)), table[i].status);
    }
}

static void test_knows_what_it_does_not_know(void **state)
{
    static const weft_status unknown[] = {-1, 7, 200, -999, INT32_MIN, INT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(abi_code(unknown[i]), 500);
        assert_int_equal(abi_err(unknown[i]), ERR_INVALID);
        assert_string_equal(abi_status_text(unknown[i]), "a status that this host does not know");
    }
    assert_string_equal(abi_status_text(WEFT_PENDING), "pending");
    assert_string_equal(abi_status_text(WEFT_OK), "ok");
}

static void test_options_of_other_sizes(void **state)
{
    const weft_route_options given = {sizeof given, 2, 3, 4, 5};
    struct {
        weft_route_options known;
        uint32_t more;
    } longer = {{sizeof longer, 2, 3, 4, 5}, 0};
    weft_route_options taken;

    (void)state;
    assert_true(abi_take_options(&taken, sizeof taken, NULL));
    assert_int_equal(taken.timeout_ms, 0);
    assert_true(abi_take_options(&taken, sizeof taken, &given));
    assert_int_equal(taken.body_bytes_max, 4);
    assert_true(abi_take_options(&taken, sizeof taken, &longer));
    longer.more = 1;
    assert_false(abi_take_options(&taken, sizeof taken, &longer));
    const uint32_t shorter[] = {8, 2, 77, 77};
    assert_true(abi_take_options(&taken, sizeof taken, shorter));
    assert_int_equal(taken.flags, 2);
    assert_int_equal(taken.timeout_ms, 0);
    longer.known.size = 0; /* forgotten */
    assert_false(abi_take_options(&taken, sizeof taken, &longer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_error_has_a_status),
        cmocka_unit_test(test_clients_get_what_the_header_says),
        cmocka_unit_test(test_knows_what_it_does_not_know),
        cmocka_unit_test(test_options_of_other_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
