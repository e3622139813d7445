/* loop/post.c - a stack that any thread pushes on and the loop takes whole.
 *
 * Whoever pushes on the empty stack wakes the loop; the others know that it will come. The loop
 * first reads the eventfd and then takes the stack: a push in between is taken too, and its wake-up
 * finds nothing, which is harmless. Turned round, the stack is the order of the pushes.
 */
#include "loop/post.h"
#include "base/check.h"
#include "base/mem.h"
#include "loop/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct post_queue {
    _Atomic(struct post *) top; /* the newest, or NULL */
    struct io io;               /* of fd */
    int fd;                     /* eventfd */
};

static void run_all(struct post_queue *queue)
{
    struct post *newest = atomic_exchange_explicit(&queue->top, NULL, memory_order_acquire);
    struct post *oldest = NULL;

    while (newest != NULL) {
        struct post *next = newest->_next;

        newest->_next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct post *next = oldest->_next;

        oldest->fn(oldest); /* it may free the post, or send it again */
        oldest = next;
    }
}

static void on_woken(struct io *io, uint32_t events)
{
    struct post_queue *queue = CONTAINER_OF(io, struct post_queue, io);
    uint64_t count;

    CHECK(events == IO_READ);
    if (read(queue->fd, &count, sizeof count) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
    run_all(queue);
}

struct post_queue *post_queue_create(struct loop *loop)
{
    struct post_queue *queue = mem_alloc(sizeof *queue);

    atomic_init(&queue->top, NULL);
    queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(queue->fd >= 0);
    io_start(loop, &queue->io, queue->fd, IO_READ, on_woken);
    return queue;
}

void post_queue_destroy(struct post_queue *queue)
{
    if (queue == NULL)
        return;
    io_stop(&queue->io);
    (void)close(queue->fd);
    mem_free(queue);
}

void post_queue_abandon(struct post_queue *queue)
{
    (void)close(queue->fd);
    queue->fd = -1;
}

static void wake(int fd)
{
    const uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0) {
        if (errno == EAGAIN)
            return; /* full of wake-ups: one is on its way for certain */
        CHECK(errno == EINTR);
    }
}

void post_send(struct loop *loop, struct post *post, post_fn *fn)
{
    struct post_queue *queue = loop_posts(loop);
    struct post *top = atomic_load_explicit(&queue->top, memory_order_relaxed);
    int fd = queue->fd;

    CHECK(fn != NULL);
    post->fn = fn;
    do
        post->_next = top;
    while (!atomic_compare_exchange_weak_explicit(&queue->top, &top, post, memory_order_release,
                                                  memory_order_relaxed));
    if (top == NULL) /* from here on the post is not ours any more */
        wake(fd);
}
