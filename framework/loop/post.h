/* loop/post.h - from another thread into the loop's.
 *
 * Loop:   post_send() from any thread; the function runs on the loop's, in the read part of a turn.
 * Memory: a post is embedded by its sender and must stay put until its function runs.
 */
#ifndef WEFT_LOOP_POST_H
#define WEFT_LOOP_POST_H

struct loop;
struct post;

typedef void post_fn(struct post *post);

struct post {
    struct post *_next; /* in the queue */
    post_fn *fn;        /* what runs; may free the post */
};

/* Queues `post` and wakes the loop. In the order of each thread. */
void post_send(struct loop *loop, struct post *post, post_fn *fn);

/* ---- for loop.c ---- */
struct post_queue;
struct post_queue *post_queue_create(struct loop *loop);
void post_queue_destroy(struct post_queue *queue);
struct post_queue *loop_posts(struct loop *loop);

#endif
