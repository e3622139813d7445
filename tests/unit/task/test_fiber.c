/* Goal: a fiber runs in its caller's place, keeps what a function may expect to keep, nests, waits
 * and goes on wherever it is resumed; stacks are reused, bounded, guarded and known to debuggers,
 * and what must never happen ends the process at once. */
#include "base/check.h"
#include "lib/dies.h"
#include "lib/test.h"
#include "task/fiber.h"
#include "task/fiber_switch.h"

#include <execinfo.h>
#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What a fiber under test does and tells. */
struct play {
    struct fiber_pool *pool;
    struct fiber *fiber; /* itself, once it runs */
    struct play *inner;  /* another to start */
    uint32_t suspends;   /* how often it waits */
    uint32_t steps;      /* how often it went on, its start included */
    const char *guard;   /* its guard page */
    bool is_over;        /* it returned */
};

static void play(void *data)
{
    struct play *self = data;

    self->fiber = fiber_current(self->pool);
    self->steps++;
    for (uint32_t i = 0; i < self->suspends; i++) {
        fiber_suspend(self->pool);
        assert_ptr_equal(fiber_current(self->pool), self->fiber);
        self->steps++;
    }
    self->is_over = true;
}

static void test_runs_at_once_and_returns(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct play one = {.pool = pool};

    (void)state;
    assert_null(fiber_current(pool));
    assert_true(fiber_start(pool, play, &one, false));
    assert_true(one.is_over);
    assert_non_null(one.fiber);
    assert_null(fiber_current(pool));
    assert_int_equal(fiber_count(pool), 0);
    assert_int_equal(fiber_count_high(pool), 1);
    fiber_pool_destroy(pool);
    fiber_pool_destroy(NULL);
}

static void test_waits_and_goes_on(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct play one = {.pool = pool, .suspends = 3};

    (void)state;
    assert_true(fiber_start(pool, play, &one, false));
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(one.steps, i);
        assert_false(one.is_over);
        assert_int_equal(fiber_count(pool), 1);
        assert_null(fiber_current(pool));
        fiber_resume(one.fiber);
    }
    assert_true(one.is_over);
    assert_int_equal(fiber_count(pool), 0);
    fiber_pool_destroy(pool);
}

/* Starts its inner play, which waits; then waits itself, and resumes the inner from here. */
static void play_nested(void *data)
{
    struct play *self = data;

    self->fiber = fiber_current(self->pool);
    assert_true(fiber_start(self->pool, play, self->inner, false));
    assert_ptr_equal(fiber_current(self->pool), self->fiber);
    self->steps++;
    fiber_suspend(self->pool);
    self->steps++;
    fiber_resume(self->inner->fiber);
    assert_ptr_equal(fiber_current(self->pool), self->fiber);
    self->is_over = true;
}

static void test_fibers_nest(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct play inner = {.pool = pool, .suspends = 2};
    struct play outer = {.pool = pool, .inner = &inner};

    (void)state;
    assert_true(fiber_start(pool, play_nested, &outer, false));
    assert_int_equal(outer.steps, 1);
    assert_int_equal(inner.steps, 1);
    assert_ptr_not_equal(outer.fiber, inner.fiber);
    assert_int_equal(fiber_count(pool), 2);

    /* The inner one was started by the outer, and goes on from the loop's stack. */
    fiber_resume(inner.fiber);
    assert_int_equal(inner.steps, 2);
    assert_null(fiber_current(pool));

    fiber_resume(outer.fiber);
    assert_true(inner.is_over);
    assert_true(outer.is_over);
    assert_int_equal(fiber_count(pool), 0);
    assert_int_equal(fiber_count_high(pool), 2);
    fiber_pool_destroy(pool);
}

/* A fiber that starts one fewer fiber below it, then waits. */
struct chain {
    struct fiber_pool *pool;
    struct fiber *fibers[50];
    uint32_t depth;
    uint32_t over;
};

static void play_chain(void *data)
{
    struct chain *chain = data;

    chain->fibers[chain->depth++] = fiber_current(chain->pool);
    if (chain->depth < 50)
        assert_true(fiber_start(chain->pool, play_chain, chain, false));
    fiber_suspend(chain->pool);
    chain->over++;
}

static void test_a_long_chain_ends_in_any_order(void **state)
{
    struct chain chain = {.pool = fiber_pool_create(NULL)};

    (void)state;
    assert_true(fiber_start(chain.pool, play_chain, &chain, false));
    assert_int_equal(fiber_count(chain.pool), 50);
    for (uint32_t i = 0; i < 50; i++)
        fiber_resume(chain.fibers[i * 7 % 50]);
    assert_int_equal(chain.over, 50);
    assert_int_equal(fiber_count(chain.pool), 0);
    fiber_pool_destroy(chain.pool);
}

static void test_the_last_stack_used_is_the_first_used_again(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct play plays[4];
    struct play again = {.pool = pool};

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        plays[i] = (struct play){.pool = pool, .suspends = 1};
        assert_true(fiber_start(pool, play, &plays[i], false));
    }
    assert_int_equal(fiber_count(pool), 4);
    for (uint32_t i = 0; i < 4; i++)
        fiber_resume(plays[i].fiber);
    assert_true(fiber_start(pool, play, &again, false));
    assert_ptr_equal(again.fiber, plays[3].fiber);
    assert_int_equal(fiber_count_high(pool), 4);
    fiber_pool_destroy(pool);
}

static void count_mapped(void *data)
{
    ++*(uint32_t *)data;
}

/* So many wait at once. */
static void wait_at_once(struct fiber_pool *pool, struct play *plays, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        plays[i] = (struct play){.pool = pool, .suspends = 1};
        assert_true(fiber_start(pool, play, &plays[i], false));
    }
    for (uint32_t i = 0; i < count; i++)
        fiber_resume(plays[i].fiber);
}

/* As many stacks are kept as are needed at once: none is mapped twice. Those that nobody needed
 * between two trims go, but for the least, and some at a time. */
static void test_stacks_are_as_many_as_are_needed(void **state)
{
    uint32_t mapped = 0;
    const struct fiber_options options = {
        .idle_min = 3, .on_mapped = count_mapped, .data = &mapped};
    struct fiber_pool *pool = fiber_pool_create(&options);
    struct play plays[20];

    (void)state;
    assert_false(fiber_trim(pool, 100)); /* there is none */
    for (int i = 0; i < 5; i++)
        wait_at_once(pool, plays, 20);
    assert_int_equal(mapped, 20);
    assert_true(fiber_trim(pool, 100)); /* all were needed since the beginning */
    wait_at_once(pool, plays, 20);
    assert_int_equal(mapped, 20);
    assert_true(fiber_trim(pool, 100)); /* the same */
    wait_at_once(pool, plays, 12);
    assert_true(fiber_trim(pool, 6)); /* 8 were not: 6 of them go */
    wait_at_once(pool, plays, 14);
    assert_int_equal(mapped, 20);
    assert_true(fiber_trim(pool, 100));
    assert_false(fiber_trim(pool, 100)); /* none was: 3 stay */
    assert_false(fiber_trim(pool, 100));
    wait_at_once(pool, plays, 4);
    assert_int_equal(mapped, 21);
    fiber_pool_destroy(pool);
}

/* Stacks that are waited on are not idle: none of them goes. */
static void test_a_trim_while_fibers_wait(void **state)
{
    const struct fiber_options options = {.idle_min = 1};
    struct fiber_pool *pool = fiber_pool_create(&options);
    struct play plays[10];

    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        plays[i] = (struct play){.pool = pool, .suspends = 1};
        assert_true(fiber_start(pool, play, &plays[i], false));
    }
    for (uint32_t i = 0; i < 5; i++)
        fiber_resume(plays[i].fiber);
    assert_true(fiber_trim(pool, 100));
    assert_true(fiber_trim(pool, 100));
    for (uint32_t i = 5; i < 10; i++)
        fiber_resume(plays[i].fiber);
    for (uint32_t i = 0; i < 10; i++)
        assert_true(plays[i].is_over);
    (void)fiber_trim(pool, 100);
    assert_false(fiber_trim(pool, 100));
    fiber_pool_destroy(pool);
}

static void test_there_is_a_limit(void **state)
{
    const struct fiber_options options = {.count_max = 2};
    struct fiber_pool *pool = fiber_pool_create(&options);
    struct play plays[3];

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        plays[i] = (struct play){.pool = pool, .suspends = 1};
    assert_true(fiber_start(pool, play, &plays[0], false));
    assert_true(fiber_start(pool, play, &plays[1], false));
    assert_false(fiber_start(pool, play, &plays[2], false));
    assert_int_equal(plays[2].steps, 0);
    assert_true(fiber_start(pool, play, &plays[2], true));
    assert_int_equal(fiber_count(pool), 3);
    for (uint32_t i = 0; i < 3; i++)
        fiber_resume(plays[i].fiber);
    assert_true(fiber_start(pool, play, &plays[0], false));
    fiber_resume(plays[0].fiber);
    fiber_pool_destroy(pool);
}

/* Registers and floating point */

/* Enough values that live across a wait to fill every register that is kept. */
__attribute__((noinline)) static uint64_t mix(struct fiber_pool *pool, uint64_t seed)
{
    uint64_t a = seed + 1;
    uint64_t b = seed * 3;
    uint64_t c = seed ^ 0x5555;
    uint64_t d = seed << 5;
    uint64_t e = seed - 77;
    uint64_t f = ~seed;
    double g = (double)seed / 3;
    double h = (double)seed * 7;

    for (uint32_t i = 0; i < 4; i++) {
        fiber_suspend(pool);
        a += b;
        b ^= c;
        c += d;
        d ^= e;
        e += f;
        f ^= a;
        g += h;
        h -= g / 2;
    }
    return a ^ b ^ c ^ d ^ e ^ f ^ (uint64_t)(int64_t)(g + h);
}

struct sum {
    struct fiber_pool *pool;
    struct fiber *fiber;
    uint64_t seed;
    uint64_t value;
};

static void play_mix(void *data)
{
    struct sum *sum = data;

    sum->fiber = fiber_current(sum->pool);
    sum->value = mix(sum->pool, sum->seed);
}

/* The same alone, to compare with. */
static uint64_t mix_alone(struct fiber_pool *pool, uint64_t seed)
{
    struct sum sum = {.pool = pool, .seed = seed};

    assert_true(fiber_start(pool, play_mix, &sum, false));
    for (uint32_t i = 0; i < 4; i++)
        fiber_resume(sum.fiber);
    return sum.value;
}

static void test_values_live_across_a_wait(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct sum sums[8];

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        sums[i] = (struct sum){.pool = pool, .seed = i * 1234567};
        assert_true(fiber_start(pool, play_mix, &sums[i], false));
    }
    for (uint32_t round = 0; round < 4; round++) {
        for (uint32_t i = 8; i-- > 0;)
            fiber_resume(sums[i].fiber);
    }
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(sums[i].value, mix_alone(pool, sums[i].seed));
    fiber_pool_destroy(pool);
}

static void play_rounding(void *data)
{
    struct play *self = data;

    self->fiber = fiber_current(self->pool);
    assert_int_equal(fegetround(), FE_TONEAREST);
    assert_int_equal(fesetround(FE_UPWARD), 0);
    fiber_suspend(self->pool);
    assert_int_equal(fegetround(), FE_UPWARD);
    self->is_over = true;
}

static void test_rounding_is_each_stacks_own(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct play one = {.pool = pool};

    (void)state;
    assert_true(fiber_start(pool, play_rounding, &one, false));
    assert_int_equal(fegetround(), FE_TONEAREST);
    assert_int_equal(fesetround(FE_DOWNWARD), 0);
    fiber_resume(one.fiber);
    assert_true(one.is_over);
    assert_int_equal(fegetround(), FE_DOWNWARD);
    assert_int_equal(fesetround(FE_TONEAREST), 0);
    fiber_pool_destroy(pool);
}

/* printf() of a double saves vector registers with instructions that fault on a stack that is not
 * aligned to 16; a large vector of our own asks for the same. */
static void play_printf(void *data)
{
    struct play *self = data;
    char text[512];
    long double values[4] __attribute__((aligned(64))) = {1.5L, 2.5L, 3.5L, 4.5L};

    self->fiber = fiber_current(self->pool);
    assert_int_equal((uintptr_t)values % 64, 0);
    (void)snprintf(text, sizeof text, "%.3f %Lg %g %300.100f", 2.125, values[1], 1e300, 3.0);
    assert_memory_equal(text, "2.125 2.5 1e+300 ", 17);
    fiber_suspend(self->pool);
    (void)snprintf(text, sizeof text, "%.1f %d %s", 0.5, 7, "seven");
    assert_string_equal(text, "0.5 7 seven");
    self->is_over = true;
}

static void test_the_stack_is_aligned(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct play one = {.pool = pool};

    (void)state;
    assert_true(fiber_start(pool, play_printf, &one, false));
    fiber_resume(one.fiber);
    assert_true(one.is_over);
    fiber_pool_destroy(pool);
}

/* Stacks */

/* Touches `bytes` of its stack, from the top down; ASan would put the array elsewhere. */
__attribute__((noinline, no_sanitize_address)) static void dig(size_t bytes)
{
    enum { HOLE = 4096 };
    char hole[HOLE];

    hole[0] = 1;
    __asm__ volatile("" ::"r"(hole) : "memory"); /* all of it is needed, says this */
    if (bytes > HOLE)
        dig(bytes - HOLE);
    __asm__ volatile("" ::"r"(hole) : "memory");
}

struct digging {
    struct fiber_pool *pool;
    size_t bytes;
    bool waits;
    struct fiber *fiber;
};

static void play_dig(void *data)
{
    struct digging *digging = data;

    digging->fiber = fiber_current(digging->pool);
    dig(digging->bytes);
    if (digging->waits)
        fiber_suspend(digging->pool);
}

static void test_the_deepest_stack_is_known(void **state)
{
    const struct fiber_options options = {.stack_size = 4 << 20, .idle_min = 1};
    struct fiber_pool *pool = fiber_pool_create(&options);
    struct digging diggings[2] = {{.pool = pool, .bytes = 200000, .waits = true},
                                  {.pool = pool, .bytes = 1500000, .waits = true}};
    size_t high;

    (void)state;
    assert_int_equal(fiber_stack_size(pool), 4 << 20);
    assert_int_equal(fiber_stack_high(pool, 10), 0);
    assert_true(fiber_start(pool, play_dig, &diggings[0], false));
    high = fiber_stack_high(pool, 10);
    assert_in_range(high, 200000, 900000);
    assert_true(fiber_start(pool, play_dig, &diggings[1], false));
    fiber_resume(diggings[1].fiber);
    fiber_resume(diggings[0].fiber);
    (void)fiber_trim(pool, 10);
    assert_false(fiber_trim(pool, 10)); /* one is left: the other one's is remembered */
    assert_in_range(fiber_stack_high(pool, 0), 1500000, 4 << 20);
    fiber_pool_destroy(pool);
}

/* Only so many are looked at at a time, and others the next time. */
static void test_each_stack_is_looked_at_in_turn(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(&(struct fiber_options){.stack_size = 1 << 20});
    struct digging diggings[5];

    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        diggings[i] = (struct digging){.pool = pool, .bytes = 1000, .waits = true};
        diggings[i].bytes = i == 3 ? 600000 : 1000;
        assert_true(fiber_start(pool, play_dig, &diggings[i], false));
    }
    assert_in_range(fiber_stack_high(pool, 1), 1, 500000);
    assert_in_range(fiber_stack_high(pool, 2), 1, 500000);
    assert_in_range(fiber_stack_high(pool, 1), 600000, 1 << 20);
    assert_in_range(fiber_stack_high(pool, 100), 600000, 1 << 20);
    for (uint32_t i = 0; i < 5; i++)
        fiber_resume(diggings[i].fiber);
    fiber_pool_destroy(pool);
}

/* Uses nearly all of a stack of the usual size: it must be there. */
static void test_a_stack_can_be_used_to_its_end(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct digging digging = {.pool = pool, .bytes = 100 * 1024};

    (void)state;
    assert_true(fiber_start(pool, play_dig, &digging, false));
    fiber_pool_destroy(pool);
}

static void overflow(void *arg)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct digging digging = {.pool = pool, .bytes = 4 << 20};

    (void)arg;
    (void)fiber_start(pool, play_dig, &digging, false);
}

static void test_beyond_the_end_is_death(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(overflow, NULL, output));
}

static void play_guard(void *data)
{
    struct play *self = data;
    const char *here = __builtin_frame_address(0);
    const char *page = here - (uintptr_t)here % 4096;

    self->fiber = fiber_current(self->pool);
    assert_false(fiber_is_overflow(self->pool, here));
    while (!fiber_is_overflow(self->pool, page))
        page -= 4096;
    assert_true(fiber_is_overflow(self->pool, page + 4095));
    assert_false(fiber_is_overflow(self->pool, page + 4096));
    assert_false(fiber_is_overflow(self->pool, page - 1));
    fiber_suspend(self->pool);
    assert_true(fiber_is_overflow(self->pool, page));
    self->guard = page;
}

static void test_the_guard_page_of_a_living_fiber_is_known(void **state)
{
    struct fiber_pool *pool = fiber_pool_create(NULL);
    struct play one = {.pool = pool};

    (void)state;
    assert_false(fiber_is_overflow(pool, &one));
    assert_false(fiber_is_overflow(NULL, &one));
    assert_true(fiber_start(pool, play_guard, &one, false));
    fiber_resume(one.fiber);
    assert_non_null(one.guard);
    assert_false(fiber_is_overflow(pool, one.guard)); /* its fiber has ended */
    fiber_pool_destroy(pool);
}

#ifndef WEFT_FIBER_UCONTEXT

struct trail {
    struct fiber_pool *pool;
    void *frames[64];
    int count;
};

static void play_backtrace(void *data)
{
    struct trail *trail = data;

    trail->count = backtrace(trail->frames, 64);
}

/* Unwinders come to fiber_enter() and know that there is nothing beyond. */
static void test_a_stack_has_an_end(void **state)
{
    struct trail trail = {.pool = fiber_pool_create(NULL)};

    (void)state;
    assert_true(fiber_start(trail.pool, play_backtrace, &trail, false));
    assert_in_range(trail.count, 3, 6);
    assert_in_range((uintptr_t)trail.frames[trail.count - 1], (uintptr_t)fiber_enter,
                    (uintptr_t)fiber_enter + 256);
    fiber_pool_destroy(trail.pool);
}

#endif

static void test_no_memory_for_a_stack(void **state)
{
    const struct fiber_options options = {.stack_size = (size_t)1 << 50};
    struct fiber_pool *pool = fiber_pool_create(&options);
    struct play one = {.pool = pool};

    (void)state;
    assert_false(fiber_start(pool, play, &one, false));
    assert_int_equal(one.steps, 0);
    assert_int_equal(fiber_count(pool), 0);
    fiber_pool_destroy(pool);
}

/* Jumps, as libraries make them that were written in C before exceptions. */

struct jump {
    struct fiber_pool *pool;
    struct fiber *fiber;
    jmp_buf back;
    uint32_t seen;
};

__attribute__((noinline)) static void fall(struct jump *jump)
{
    volatile char frame[4096];

    frame[jump->seen] = 1;
    fiber_suspend(jump->pool);
    longjmp(jump->back, 7 + frame[4095 * (jump->seen > 5)]);
}

static void play_jump(void *data)
{
    struct jump *self = data;
    volatile uint32_t before = 41;

    self->fiber = fiber_current(self->pool);
    if (setjmp(self->back) == 0)
        fall(self);
    self->seen = before + 1;
    fiber_suspend(self->pool);
    self->seen++;
}

/* From a deeper frame to a higher one of the same stack, with a wait in between, whoever resumes;
 * _FORTIFY_SOURCE looks at the stack pointer there. */
static void test_jumps_within_a_stack(void **state)
{
    struct jump jumps[2] = {{.pool = fiber_pool_create(NULL)}};

    (void)state;
    jumps[1].pool = jumps[0].pool;
    assert_true(fiber_start(jumps[0].pool, play_jump, &jumps[0], false));
    assert_true(fiber_start(jumps[0].pool, play_jump, &jumps[1], false));
    for (uint32_t i = 0; i < 4; i++)
        fiber_resume(jumps[i % 2].fiber);
    assert_int_equal(jumps[0].seen, 43);
    assert_int_equal(jumps[1].seen, 43);
    assert_int_equal(fiber_count(jumps[0].pool), 0);
    fiber_pool_destroy(jumps[0].pool);
}

/* What must never happen */

static void suspend_on_the_loops_stack(void *arg)
{
    (void)arg;
    fiber_suspend(fiber_pool_create(NULL));
}

static void play_resume_itself(void *data)
{
    struct play *self = data;

    fiber_resume(fiber_current(self->pool));
}

static void resume_itself(void *arg)
{
    struct play one = {.pool = fiber_pool_create(NULL)};

    (void)arg;
    (void)fiber_start(one.pool, play_resume_itself, &one, false);
}

static void destroy_too_early(void *arg)
{
    struct play one = {.pool = fiber_pool_create(NULL), .suspends = 1};

    (void)arg;
    (void)fiber_start(one.pool, play, &one, false);
    fiber_pool_destroy(one.pool);
}

static void test_misuse_is_death(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(suspend_on_the_loops_stack, NULL, output));
    assert_non_null(strstr(output, "fiber_suspend"));
    assert_true(dies(resume_itself, NULL, output));
    assert_non_null(strstr(output, "fiber_resume"));
    assert_true(dies(destroy_too_early, NULL, output));
    assert_non_null(strstr(output, "pool->count == 0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_at_once_and_returns),
        cmocka_unit_test(test_waits_and_goes_on),
        cmocka_unit_test(test_fibers_nest),
        cmocka_unit_test(test_a_long_chain_ends_in_any_order),
        cmocka_unit_test(test_the_last_stack_used_is_the_first_used_again),
        cmocka_unit_test(test_stacks_are_as_many_as_are_needed),
        cmocka_unit_test(test_a_trim_while_fibers_wait),
        cmocka_unit_test(test_there_is_a_limit),
        cmocka_unit_test(test_values_live_across_a_wait),
        cmocka_unit_test(test_rounding_is_each_stacks_own),
        cmocka_unit_test(test_the_stack_is_aligned),
        cmocka_unit_test(test_the_deepest_stack_is_known),
        cmocka_unit_test(test_each_stack_is_looked_at_in_turn),
        cmocka_unit_test(test_a_stack_can_be_used_to_its_end),
        cmocka_unit_test(test_beyond_the_end_is_death),
        cmocka_unit_test(test_the_guard_page_of_a_living_fiber_is_known),
#ifndef WEFT_FIBER_UCONTEXT
        cmocka_unit_test(test_a_stack_has_an_end),
#endif
        cmocka_unit_test(test_no_memory_for_a_stack),
        cmocka_unit_test(test_jumps_within_a_stack),
        cmocka_unit_test(test_misuse_is_death),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
