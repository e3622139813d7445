/* plugin/abi_post.c - from a plugin's other threads into its background scope.
 *
 *   MADE (by init(): messages are kept) ──▶ OPEN (the loop watches)
 *      ──▶ CLOSED (posts are refused, what waits is dropped) ──▶ gone, after fini()
 *
 * An inbox has a descriptor of its own, since it must be able to go while messages wait. One lock
 * guards the list, the count and is_closed; never held while a plugin runs.
 */
#include "base/check.h"
#include "base/mem.h"
#include "plugin/inside.h"
#include "task/tasks.h"
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { POSTS_MAX = 1024 }; /* of an instance: waiting, or running; what weft.h says */

struct message {
    struct list link;         /* among the waiting ones */
    struct weft_inbox *inbox; /* where it was posted */
    weft_handler *fn;         /* the plugin's */
    void *data;               /* for fn */
};

struct weft_inbox {
    uint32_t magic;            /* INBOX_MAGIC */
    struct instance *instance; /* whose */
    struct io io;              /* of fd */
    int fd;                    /* eventfd: something waits */
    pthread_mutex_t lock;      /* guards what follows */
    struct list waiting;       /* messages that were not begun */
    uint32_t count;            /* waiting, or running */
    bool is_closed;            /* takes no more */
};

#define INBOX_MAGIC 0x696e6278u

static void lock(struct weft_inbox *inbox)
{
    CHECK(pthread_mutex_lock(&inbox->lock) == 0);
}

static void unlock(struct weft_inbox *inbox)
{
    CHECK(pthread_mutex_unlock(&inbox->lock) == 0);
}

/* It ran, or never will. */
static void drop(struct message *message)
{
    struct weft_inbox *inbox = message->inbox;

    lock(inbox);
    inbox->count--;
    unlock(inbox);
    mem_free(message);
}

static void drop_all(struct list *messages)
{
    struct list *link;

    while ((link = list_first(messages)) != NULL) {
        list_remove(link);
        drop(CONTAINER_OF(link, struct message, link));
    }
}

static void take_all(struct weft_inbox *inbox, struct list *messages)
{
    list_init(messages);
    lock(inbox);
    list_move_all(messages, &inbox->waiting);
    unlock(inbox);
}

/* Running */

static void run_message(struct scope *scope, void *data)
{
    struct message *message = data;

    abi_take_status(scope, message->fn(abi_ctx(scope), message->data));
    drop(message);
}

static void on_posted(struct io *io, uint32_t events)
{
    struct weft_inbox *inbox = CONTAINER_OF(io, struct weft_inbox, io);
    struct list messages;
    struct list *link;
    uint64_t count;

    CHECK(events == IO_READ);
    CHECK(inbox->instance->background != NULL);
    if (read(inbox->fd, &count, sizeof count) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
    take_all(inbox, &messages);
    while ((link = list_first(&messages)) != NULL) {
        struct message *message = CONTAINER_OF(link, struct message, link);

        list_remove(link);
        if (!scope_run(inbox->instance->background, run_message, message, true))
            drop(message);
    }
}

/* Life */

weft_status abi_inbox(weft_host *host, weft_inbox **found)
{
    struct instance *instance = abi_init_of(host, "open_inbox");
    struct weft_inbox *inbox;

    if (instance == NULL)
        return WEFT_E_STATE;
    if (found == NULL)
        return WEFT_E_INVALID;
    if (instance->inbox == NULL) {
        inbox = mem_alloc(sizeof *inbox);
        inbox->magic = INBOX_MAGIC;
        inbox->instance = instance;
        inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        CHECK(inbox->fd >= 0);
        CHECK(pthread_mutex_init(&inbox->lock, NULL) == 0);
        list_init(&inbox->waiting);
        instance->inbox = inbox;
    }
    *found = instance->inbox;
    return WEFT_OK;
}

void abi_inbox_start(struct instance *instance)
{
    struct weft_inbox *inbox = instance->inbox;

    CHECK(instance->background != NULL);
    if (inbox != NULL)
        io_start(instance->abi->services.tasks->loop, &inbox->io, inbox->fd, IO_READ, on_posted);
}

void abi_inbox_stop(struct instance *instance)
{
    struct weft_inbox *inbox = instance->inbox;
    struct list messages;

    if (inbox == NULL)
        return;
    io_stop(&inbox->io);
    lock(inbox);
    inbox->is_closed = true;
    unlock(inbox);
    take_all(inbox, &messages);
    drop_all(&messages);
}

void abi_inbox_destroy(struct instance *instance)
{
    struct weft_inbox *inbox = instance->inbox;

    if (inbox == NULL)
        return;
    abi_inbox_stop(instance);
    CHECK(inbox->count == 0);
    (void)close(inbox->fd);
    CHECK(pthread_mutex_destroy(&inbox->lock) == 0);
    inbox->magic = 0;
    instance->inbox = NULL;
    mem_free(inbox);
}

/* Posting, on any thread */

static weft_status add(struct weft_inbox *inbox, struct message *message)
{
    const uint64_t one = 1;

    if (inbox->is_closed)
        return WEFT_E_STATE;
    if (inbox->count >= POSTS_MAX)
        return WEFT_E_OVERLOAD;
    inbox->count++;
    list_append(&inbox->waiting, &message->link);
    while (write(inbox->fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    return WEFT_OK;
}

weft_status abi_post(weft_inbox *inbox, weft_handler *fn, void *data)
{
    struct message *message;
    weft_status status;

    if (inbox == NULL || inbox->magic != INBOX_MAGIC) {
        abi_misuse("post", "no inbox");
        return WEFT_E_STATE;
    }
    if (fn == NULL)
        return WEFT_E_INVALID;
    message = mem_alloc(sizeof *message);
    *message = (struct message){.inbox = inbox, .fn = fn, .data = data};
    lock(inbox);
    status = add(inbox, message);
    unlock(inbox);
    if (status != WEFT_OK)
        mem_free(message);
    return status;
}
