/* Goal: what one statement suffers is nobody else's business. 10,000 mixed statements over four
 *       sessions, of which one in a hundred fails and one in a hundred is canceled, at random:
 *       every other one succeeds, every write that reported success is there once, none that failed
 *       is; and these are what was meant: about so many of each kind, each with its own end.
 *
 * WEFT_SOAK=1 runs 200,000 of them, WEFT_SEED says which course of all that it can take. */
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/random.h"
#include "lib/test.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUND = 400, ROUNDS = 25, ROUNDS_SOAK = 500, PARTS = 100, TURNS_MAX = 60 };

enum what {
    READ,
    READ_ALONE,
    READ_AD_HOC,
    READ_SLOW,
    READ_BAD,
    WRITE,
    WRITE_SLOW,
    WRITE_BAD,
    KINDS
};
enum fate_of_one { SUCCEEDED, FAILED, CANCELED, FATES };

/* One statement of a round. */
struct one {
    enum what what;
    int32_t number;     /* what a write inserts, a read reads back */
    struct op *op;      /* in the round's scope */
    uint32_t cancel_in; /* turns; 0: not canceled, or not any more */
    bool was_chosen;    /* to be canceled */
};

static struct pg_server server;
static struct pg_world world;
static const struct pg_statement *statements[KINDS];
static struct one round_of[ROUND];
static uint8_t *fate; /* of each number: see below */
static uint64_t dice;
static uint32_t chosen[KINDS], to_cancel; /* by choose() */
static uint32_t ended[KINDS][FATES];      /* by what came of them */

/* What may be in the table. */
enum { UNKNOWN, MUST_BE, MUST_NOT_BE, MAY_BE };

static int start_server(void **state)
{
    const char *seed = getenv("WEFT_SEED");

    (void)state;
    dice = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
    print_message("WEFT_SEED=%" PRIu64 "\n", dice);
    pg_server_init(&server, "");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

static void declare_all(void)
{
    static const struct {
        const char *name, *sql;
        uint32_t flags;
    } texts[] = {
        [READ] = {"read", "select $1::int, 1 / $2::int", PG_READ_ONLY},
        [READ_ALONE] = {"read alone", "select $1::int from mixed where a = -1 union select $1", 0},
        [READ_SLOW] = {"read slow", "select $1::int, pg_sleep(20)", PG_READ_ONLY},
        [WRITE] = {"write", "insert into mixed values ($1)", 0},
        [WRITE_SLOW] = {"write slow",
                        "with x as (insert into mixed values ($1) returning 1) "
                        "select pg_sleep(20) from x",
                        0},
        [WRITE_BAD] = {"write bad", "insert into mixed values ($1), ($1)", 0},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].name != NULL)
            assert_int_equal(pg_pool_declare(world.pool, texts[i].name, texts[i].sql,
                                             texts[i].flags, &statements[i]),
                             ERR_OK);
}

static void choose(struct one *one)
{
    static const enum what usual[] = {READ, READ, READ, READ_ALONE, READ_AD_HOC, WRITE, WRITE};
    static const enum what slow[] = {READ_SLOW, WRITE_SLOW, READ, WRITE, WRITE_SLOW};

    one->what = usual[random_below(&dice, sizeof usual / sizeof usual[0])];
    one->cancel_in = 0;
    one->was_chosen = false;
    if (random_below(&dice, PARTS) == 0)
        one->what = random_below(&dice, 2) == 0 ? READ_BAD : WRITE_BAD;
    if (random_below(&dice, PARTS) == 0) {
        one->what = slow[random_below(&dice, sizeof slow / sizeof slow[0])];
        one->cancel_in = 1 + random_below(&dice, TURNS_MAX);
        one->was_chosen = true;
        to_cancel++;
    }
    chosen[one->what]++;
}

static void start(struct one *one)
{
    const struct pg_value values[] = {pg_world_int(one->number), pg_world_int(one->what == READ)};
    struct pg_call call = {.pool = world.pool, .values = values, .count = 1};

    call.statement = statements[one->what == READ_BAD ? READ : one->what];
    call.count += call.statement == statements[READ];
    if (one->what == READ_AD_HOC) {
        call.statement = NULL;
        call.count = 1;
        call.sql = SPAN("select $1::int as ad_hoc");
        call.flags = one->number % 2 == 0 ? PG_READ_ONLY : 0;
    }
    one->op = pg_query_start(world.scope, &call);
}

static void turn_and_cancel(uint32_t started)
{
    loop_turn(world.loop, started == ROUND ? 5 : 0);
    for (uint32_t i = 0; i < started; i++)
        if (round_of[i].cancel_in > 0 && --round_of[i].cancel_in == 0)
            op_cancel(round_of[i].op);
}

static bool is_write(const struct one *one)
{
    return one->what >= WRITE;
}

static void check_canceled(const struct one *one)
{
    bool may_be = is_write(one) && pg_maybe_applied(one->op);

    ended[one->what][CANCELED]++;
    assert_true(one->was_chosen);
    fate[one->number] = may_be ? MAY_BE : MUST_NOT_BE;
    if (one->what == READ || one->what == READ_SLOW)
        assert_false(pg_maybe_applied(one->op));
}

static void check(const struct one *one)
{
    enum err err = pg_world_await(&world, one->op);

    if (err == ERR_CANCELED) {
        check_canceled(one);
    } else if (one->what == READ_BAD || one->what == WRITE_BAD) {
        assert_int_equal(err, one->what == READ_BAD ? ERR_DB : ERR_DB_CONSTRAINT);
        assert_string_equal(pg_sqlstate(one->op).ptr, one->what == READ_BAD ? "22012" : "23505");
        fate[one->number] = MUST_NOT_BE;
        ended[one->what][FAILED]++;
    } else {
        if (err != ERR_OK)
            fail_msg("statement %d, a %s: %s: %.*s", one->number, is_write(one) ? "write" : "read",
                     err_name(err), SPAN_ARG(one->op->error));
        fate[one->number] = is_write(one) ? MUST_BE : MUST_NOT_BE;
        ended[one->what][SUCCEEDED]++;
        if (!is_write(one))
            assert_int_equal(pg_int(one->op, 0, 0), one->number);
    }
}

static void run_round(int32_t first)
{
    bool any = false;

    for (uint32_t i = 0; i < ROUND; i++) {
        round_of[i].number = first + (int32_t)i;
        choose(&round_of[i]);
        any |= round_of[i].was_chosen;
        start(&round_of[i]);
        if (random_below(&dice, 8) == 0)
            turn_and_cancel(i + 1);
    }
    for (uint32_t i = 0; any && i < TURNS_MAX; i++)
        turn_and_cancel(ROUND);
    for (uint32_t i = 0; i < ROUND; i++)
        check(&round_of[i]);
    pg_world_renew(&world);
}

/* What is there is what was told; what was written twice would have been told to have failed. */
static void compare(int32_t count)
{
    struct op *op;
    uint32_t row = 0, rows;

    op = pg_world_run(&world, "select a from mixed order by a");
    rows = pg_rows(op);
    for (int32_t number = 0; number < count; number++) {
        bool is_there = row < rows && pg_int(op, row, 0) == number;

        row += is_there;
        if ((fate[number] == MUST_BE && !is_there) || (fate[number] == MUST_NOT_BE && is_there))
            fail_msg("%d is %s, which it must not be", number, is_there ? "there" : "missing");
        assert_int_not_equal(fate[number], UNKNOWN);
    }
    assert_int_equal(row, rows);
}

/* Is it that share of all, give or take five standard deviations? Of a million seeds all say so. */
static void expect_about(const char *what, uint32_t is, double share, uint32_t of)
{
    double mean = share * of, deviation = sqrt(of * share * (1 - share));

    if (fabs(is - mean) > 5 * deviation)
        fail_msg("%u %s of %u, not about %.0f", is, what, of, mean);
}

/* About so many of each kind were chosen; each of them came to an end that it may have, and no
 * other one: what was to fail failed, what was not to be canceled was not, all else succeeded. */
static void check_counts(uint32_t count)
{
    static const double part = 1.0 / PARTS;
    uint32_t all = 0, canceled = 0;

    expect_about("to be canceled", to_cancel, part, count);
    expect_about("to fail", chosen[READ_BAD] + chosen[WRITE_BAD], part * (1 - part), count);
    expect_about("reads", chosen[READ], 3. / 7 * (1 - part) * (1 - part) + part / 5, count);
    expect_about("writes", chosen[WRITE], 2. / 7 * (1 - part) * (1 - part) + part / 5, count);
    for (int what = 0; what < KINDS; what++) {
        const uint32_t *ends = ended[what];

        assert_int_equal(ends[SUCCEEDED] + ends[FAILED] + ends[CANCELED], chosen[what]);
        if (what == READ_BAD || what == WRITE_BAD)
            assert_int_equal(ends[FAILED], chosen[what]);
        else
            assert_int_equal(ends[FAILED], 0);
        if (what == READ_SLOW || what == WRITE_SLOW) /* they last until they are canceled */
            assert_int_equal(ends[CANCELED], chosen[what]);
        all += chosen[what];
        canceled += ends[CANCELED];
    }
    assert_int_equal(all, count);
    assert_in_range(canceled, chosen[READ_SLOW] + chosen[WRITE_SLOW], to_cancel);
    print_message("%u statements: %u failed, %u of %u canceled in time, %" PRIu64
                  " in the server, %" PRIu64 " run again\n",
                  count, chosen[READ_BAD] + chosen[WRITE_BAD], canceled, to_cancel,
                  pg_pool_counts(world.pool)->cancels_sent, pg_pool_counts(world.pool)->run_again);
}

static void test_ten_thousand_mixed_statements_over_four_sessions(void **state)
{
    int32_t rounds = getenv("WEFT_SOAK") != NULL ? ROUNDS_SOAK : ROUNDS;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "drop table if exists mixed; create table mixed (a int unique)");
    fate = mem_calloc((size_t)rounds * ROUND, 1);
    pg_world_init(&world, &server);
    world.options.queue_timeout_ms = 60000;
    pg_world_start(&world);
    declare_all();
    for (int32_t round = 0; round < rounds; round++)
        run_round(round * ROUND);
    compare(rounds * ROUND);
    assert_int_equal(pg_pool_counts(world.pool)->sessions, 4);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    check_counts((uint32_t)rounds * ROUND);
    assert_true(pg_pool_counts(world.pool)->cancels_sent > 0);
    assert_true(pg_pool_counts(world.pool)->run_again > 0);
    pg_world_deinit(&world);
    mem_free(fate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_thousand_mixed_statements_over_four_sessions),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
