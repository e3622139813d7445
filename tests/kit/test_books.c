/* Goal: the flows of plugins/books and plugins/books_then, with the test kit: what they ask of the
 * database and the API, what they answer, and that whatever goes wrong, they answer once. */
#include "lib/test.h"
#include "weft_test.h"

static weft_test *begin(void)
{
    weft_test *t = weft_test_start(NULL);

    assert_null(weft_test_problem(t));
    return t;
}

static weft_test_step *a_book(weft_test *t, const char *id, const char *title)
{
    weft_test_step *found = weft_test_query(t, "book_by_id", WEFT_ARGS(weft_text(weft_cstr(id))));

    weft_test_columns(found, "id int, title text, author text");
    if (title != NULL)
        weft_test_row(found, id, title, "Jane Austen");
    return found;
}

static void a_book_is_found(void **state)
{
    weft_test *t = begin();

    (void)state;
    a_book(t, "1", "Emma");
    weft_test_is(weft_test_get(t, "/books/1"), 200,
                 "{\"id\":1,\"title\":\"Emma\",\"author\":\"Jane Austen\"}");
    a_book(t, "2", NULL);
    weft_test_is(weft_test_get(t, "/books/2"), 404, NULL);
    weft_test_is(weft_test_get(t, "/books/one"), 400, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void all_books(void **state)
{
    weft_test *t = begin();
    weft_test_step *found = weft_test_query(t, "all_books", WEFT_NO_ARGS);

    (void)state;
    weft_test_columns(found, "id int, title, author");
    weft_test_row(found, "1", "Emma", NULL);
    weft_test_row(found, "2", "Ulysses", "James Joyce");
    weft_test_is(weft_test_get(t, "/books"), 200,
                 "[{\"id\":1,\"title\":\"Emma\",\"author\":null},"
                 "{\"id\":2,\"title\":\"Ulysses\",\"author\":\"James Joyce\"}]");
    assert_int_equal(weft_test_end(t), 0);
}

static weft_test_step *an_insert(weft_test *t)
{
    weft_test_step *added = weft_test_query(
        t, "add_book", WEFT_ARGS(weft_text(weft_cstr("Emma")), weft_text(weft_cstr("J. Austen"))));

    weft_test_columns(added, "id int, title, author");
    weft_test_row(added, "7", "Emma", "J. Austen");
    return added;
}

static void a_book_is_added(void **state)
{
    weft_test *t = begin();
    weft_test_request *request;

    (void)state;
    an_insert(t);
    request = weft_test_post(t, "/books", "{\"title\":\"Emma\",\"author\":\"J. Austen\"}");
    weft_test_is(request, 201, "{\"id\":7,\"title\":\"Emma\",\"author\":\"J. Austen\"}");
    assert_string_equal(weft_test_field(request, "location"), "/books/7");
    weft_test_refuse(an_insert(t), "23505", "there is one already");
    weft_test_is(weft_test_post(t, "/books", "{\"title\":\"Emma\",\"author\":\"J. Austen\"}"), 409,
                 NULL);
    weft_test_is(weft_test_post(t, "/books", "{\"title\":1}"), 400, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static weft_test_step *a_quote(weft_test *t)
{
    weft_test_step *call = weft_test_call(t, "thirdparty", "GET", "/quote");

    weft_test_answer(call, 200, "application/json", "{\"text\":\"x\"}");
    return call;
}

static void a_quote_is_fetched(void **state)
{
    weft_test *t = begin();

    (void)state;
    a_quote(t);
    weft_test_is(weft_test_get(t, "/quote"), 200, "{\"text\":\"x\"}");
    weft_test_answer(a_quote(t), 503, NULL, NULL);
    weft_test_is(weft_test_get(t, "/quote"), 502, NULL);
    weft_test_fault(a_quote(t), WEFT_TEST_TIMEOUT);
    weft_test_is(weft_test_get(t, "/quote"), 504, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

/* The settings may be those of the real thing: no certificate is looked for. */
static void an_upstream_is_https(void **state)
{
    weft_test *t = weft_test_start("[upstream.thirdparty]\n"
                                   "url = https://thirdparty.test\n"
                                   "tls_ca = /nowhere/ca.pem\n");

    (void)state;
    assert_null(weft_test_problem(t));
    a_quote(t);
    weft_test_is(weft_test_get(t, "/quote"), 200, "{\"text\":\"x\"}");
    weft_test_fault(a_quote(t), WEFT_TEST_LOST);
    weft_test_is(weft_test_get(t, "/quote"), 502, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void both_at_once(void **state)
{
    weft_test *t = begin();
    weft_test_step *counted = weft_test_query(t, "count_books", WEFT_NO_ARGS);
    uint64_t begun = weft_test_now_ms(t);

    (void)state;
    weft_test_columns(counted, "count bigint");
    weft_test_row(counted, "3");
    weft_test_after(counted, 300);
    weft_test_after(a_quote(t), 200);
    weft_test_is(weft_test_get(t, "/summary"), 200, "{\"books\":3,\"quote\":{\"text\":\"x\"}}");
    assert_in_range(weft_test_now_ms(t) - begun, 300, 310);
    assert_int_equal(weft_test_end(t), 0);
}

static void play_all(weft_test *t, void *data)
{
    weft_test_step *call;

    (void)data;
    a_book(t, "1", "Emma");
    weft_test_is(weft_test_get(t, "/books/1"), 200, NULL);
    call = weft_test_call(t, "thirdparty", "GET", "/book");
    weft_test_answer(call, 200, "application/json",
                     "{\"title\":\"Emma\",\"author\":\"J. Austen\"}");
    an_insert(t);
    weft_test_is(weft_test_post(t, "/books/import", ""), 201, NULL);
    a_book(t, "1", "Emma");
    call = weft_test_call(t, "thirdparty", "POST", "/announcements");
    weft_test_wants_body(call, "{\"id\":1,\"title\":\"Emma\",\"author\":\"Jane Austen\"}");
    weft_test_answer(call, 200, "application/json", "{\"announced\":1}");
    weft_test_is(weft_test_post(t, "/books/1/announce", ""), 200, "{\"announced\":1}");
    weft_test_columns(weft_test_query(t, "count_books", WEFT_NO_ARGS), "count bigint");
    a_quote(t);
    weft_test_is(weft_test_get(t, "/summary"), 200, "{\"books\":0,\"quote\":{\"text\":\"x\"}}");
}

static void whatever_goes_wrong(void **state)
{
    weft_test *t = begin();

    (void)state;
    assert_true(weft_test_sweep(t, play_all, NULL) > 30);
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_book_is_found),      cmocka_unit_test(all_books),
        cmocka_unit_test(a_book_is_added),      cmocka_unit_test(a_quote_is_fetched),
        cmocka_unit_test(an_upstream_is_https), cmocka_unit_test(both_at_once),
        cmocka_unit_test(whatever_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
