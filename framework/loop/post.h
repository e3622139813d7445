/* loop/post.h - from another thread into the loop's.
 *
 * Loop:   post_send() from any thread; the function runs on the loop's, in the read part of a turn.
 * Memory: a post is embedded by its sender and must stay put until its function runs. Threads that
 *         post are joined before the loop goes.
 * Limits: none here: whoever posts bounds what is on its way.
 */
#ifndef WEFT_LOOP_POST_H
#define WEFT_LOOP_POST_H

struct loop;
struct post;

/* Runs once on the loop's thread; it may free or send `post` again. */
typedef void post_fn(struct post *post);

/* One message. Nothing of it is touched any more once `fn` runs. */
struct post {
    struct post *_next; /* in the queue */
    post_fn *fn;        /* what runs; may free the post */
};

/* Queues `post` and wakes the loop. Those of one thread run in the order in which they were
 * sent. */
void post_send(struct loop *loop, struct post *post, post_fn *fn);

/* ---- for loop.c ---- */

struct post_queue;

/* The queue of `loop`, with an eventfd that it watches. Aborts where there is no descriptor
 * left. */
struct post_queue *post_queue_create(struct loop *loop);

/* Ends it; what is still queued is dropped without a call. NULL is fine. */
void post_queue_destroy(struct post_queue *queue);

/* In a forked child: closes the descriptor, which the parent has too, and touches nothing else. */
void post_queue_abandon(struct post_queue *queue);

/* The queue of `loop`; fine from any thread. */
struct post_queue *loop_posts(struct loop *loop);

#endif
