/* Goal: what threads post runs on the loop's thread, once each and in each thread's order, wakes a
 * loop that sleeps, and may be sent again or freed by its function. */
#include "base/check.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "loop/loop.h"
#include "loop/post.h"

#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 4, POSTS = 5000 };

/* One of many. */
struct letter {
    struct post post;
    struct sender *sender;
    uint32_t index; /* in its sender's order */
};

/* A thread that posts. */
struct sender {
    pthread_t thread;
    struct loop *loop;
    uint32_t *arrived_all; /* letters of all threads */
    uint32_t arrived;      /* of this one */
};

static void on_letter(struct post *post)
{
    struct letter *letter = CONTAINER_OF(post, struct letter, post);

    assert_int_equal(letter->index, letter->sender->arrived);
    letter->sender->arrived++;
    ++*letter->sender->arrived_all;
    free(letter);
}

static void *send_letters(void *data)
{
    struct sender *sender = data;

    for (uint32_t i = 0; i < POSTS; i++) {
        struct letter *letter = calloc(1, sizeof *letter);

        letter->sender = sender;
        letter->index = i;
        post_send(sender->loop, &letter->post, on_letter);
    }
    return NULL;
}

static void test_threads_are_heard_in_their_order(void **state)
{
    struct loop *loop = loop_create(NULL);
    struct sender senders[THREADS];
    uint32_t arrived = 0;

    (void)state;
    for (uint32_t i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){.loop = loop, .arrived_all = &arrived};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]), 0);
    }
    run_until_count(loop, &arrived, THREADS * POSTS);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
    assert_int_equal(arrived, THREADS * POSTS);
    loop_destroy(loop);
}

/* A post that comes back until it has had enough. */
struct echo {
    struct post post;
    struct loop *loop;
    uint32_t count;
};

static void on_echo(struct post *post)
{
    struct echo *echo = CONTAINER_OF(post, struct echo, post);

    if (++echo->count < 3)
        post_send(echo->loop, post, on_echo);
}

static void test_sent_again_it_comes_with_the_next_turn(void **state)
{
    struct fake_clock clock;
    struct echo echo = {.loop = fake_clock_loop(&clock)};

    (void)state;
    post_send(echo.loop, &echo.post, on_echo);
    for (uint32_t i = 1; i <= 3; i++) {
        run_turns(echo.loop, 1);
        assert_int_equal(echo.count, i);
    }
    run_turns(echo.loop, 1);
    assert_int_equal(echo.count, 3);
    post_send(echo.loop, &echo.post, on_echo);
    loop_destroy(echo.loop); /* what is queued is dropped */
    assert_int_equal(echo.count, 3);
}

static void stop_loop(struct post *post)
{
    loop_stop(CONTAINER_OF(post, struct echo, post)->loop);
}

static void *send_stop(void *data)
{
    struct echo *echo = data;

    post_send(echo->loop, &echo->post, stop_loop);
    return NULL;
}

static void test_wakes_a_loop_that_sleeps_for_ever(void **state)
{
    struct echo echo = {.loop = loop_create(NULL)};
    pthread_t thread;

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(pthread_create(&thread, NULL, send_stop, &echo), 0);
        loop_run(echo.loop);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    loop_destroy(echo.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_are_heard_in_their_order),
        cmocka_unit_test(test_sent_again_it_comes_with_the_next_turn),
        cmocka_unit_test(test_wakes_a_loop_that_sleeps_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
