/* server/admin.c - the admin listener.
 *
 *   /livez, /readyz    answered at once
 *   /metrics, /status  an op, which settles when the workers have shown what they have (fresh.h)
 */
#include "server/admin.h"
#include "base/check.h"
#include "base/log.h"
#include "http/response.h"
#include "server/activation.h"
#include "server/exposition.h"
#include "server/reload.h"
#include "server/status.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLOSING_TURNS = 100 };

/* Writes what was gathered. */
typedef void write_fn(const struct status *status, struct buf *out);

/* A request that waits for the workers. */
struct question {
    struct op op;                 /* first: settles when they have answered */
    struct fresh fresh;           /* for that */
    struct admin *admin;          /* whose */
    struct http_request *request; /* to be answered */
    write_fn *write;              /* with what */
    const char *type;             /* of that */
};

/* ---- answers ---- */

static void answer(struct http_request *request, uint32_t code, const char *type, struct span body)
{
    enum err err = http_reply_field(request, SPAN("Cache-Control"), SPAN("no-store"));

    if (err == ERR_OK)
        err = http_reply(request, code, span_of(type), body);
    if (err != ERR_OK)
        log_debug("admin: not answered: %s", err_text(err));
}

static void on_livez(struct http_request *request, void *data)
{
    (void)data;
    answer(request, 200, "text/plain", SPAN("alive\n"));
}

static void on_readyz(struct http_request *request, void *data)
{
    const struct admin *admin = data;
    bool is_ready = watch_is_ready(admin->watch);
    char body[64];
    int len = snprintf(body, sizeof body, "%s\n",
                       is_ready || admin->watch->phase != WATCH_SERVING ? status_phase(admin->watch)
                                                                        : "no worker serves");

    answer(request, is_ready ? 200 : 503, "text/plain", (struct span){body, (size_t)len});
}

static void on_withdraw(struct op *op)
{
    struct question *question = CONTAINER_OF(op, struct question, op);

    fresh_cancel(&question->fresh);
    op_retire(op);
}

static const struct op_kind question_kind = {
    .name = "workers", .account = -1, .withdraw = on_withdraw};

static void on_fresh(struct fresh *fresh)
{
    op_finish(&CONTAINER_OF(fresh, struct question, fresh)->op, ERR_OK, NULL);
}

static void on_settled(struct op *op, void *data)
{
    const struct question *question = data;
    const struct admin *admin = question->admin;
    const struct generation *current = admin->reload->current;
    bool with_requests = http_request_query(question->request, SPAN("requests")).ptr != NULL;
    struct status status = {.slots = current != NULL ? current->settings->workers : 0,
                            .generation = current != NULL ? current->number : 0,
                            .history = &admin->reload->history,
                            .with_requests = with_requests};
    struct buf out;

    if (op->status != ERR_OK) /* the client has left, or we end */
        return;
    buf_init(&out, NULL);
    status_gather(&status, admin->watch);
    question->write(&status, &out);
    status_release(&status);
    answer(question->request, 200, question->type, buf_span(&out));
    buf_release(&out);
}

static void ask(struct admin *admin, struct http_request *request, write_fn *write,
                const char *type)
{
    struct question *question = scope_alloc(request->scope, sizeof *question);

    question->admin = admin;
    question->request = request;
    question->write = write;
    question->type = type;
    if (op_init(&question->op, request->scope, &question_kind))
        fresh_start(admin->fresh, &question->fresh, on_fresh);
    if (op_notify(&question->op, on_settled, question) != ERR_OK)
        answer(request, 503, "text/plain", SPAN("ending\n"));
}

static void on_metrics(struct http_request *request, void *data)
{
    ask(data, request, exposition_text, "text/plain; version=0.0.4; charset=utf-8");
}

static void on_status(struct http_request *request, void *data)
{
    ask(data, request, status_json, "application/json");
}

/* ---- life ---- */

static const struct {
    char *pattern;       /* of the path */
    http_handler_fn *fn; /* answers */
} served[] = {
    {"/livez", on_livez}, {"/readyz", on_readyz}, {"/metrics", on_metrics}, {"/status", on_status}};

static bool may_accept(struct listener *listener)
{
    return http_server_make_room(CONTAINER_OF(listener, struct admin, listener)->http);
}

static void on_connection(struct listener *listener, int fd, const struct addr *peer)
{
    http_server_accept(CONTAINER_OF(listener, struct admin, listener)->http, fd, peer);
}

static void on_room(void *data)
{
    struct admin *admin = data;

    listener_resume(&admin->listener);
}

void admin_init(struct admin *admin, struct fresh_desk *fresh, struct watch *watch,
                const struct reload *reload)
{
    *admin = (struct admin){.fresh = fresh,
                            .watch = watch,
                            .reload = reload,
                            .listener._fd = -1,
                            .fd = -1,
                            .inherited = -1};
}

static void start(struct admin *admin)
{
    struct loop *loop = admin->watch->loop;

    field_defaults(&http_option_table, &admin->options);
    admin->options.body_bytes_max = 0;
    admin->options.connections_max = ADMIN_CONNECTIONS_MAX;
    admin->tasks = tasks_create(loop, NULL, NULL);
    admin->router = router_create();
    for (size_t i = 0; i < sizeof served / sizeof *served; i++) {
        const struct http_route route = {
            .method = "GET", .pattern = served[i].pattern, .fn = served[i].fn, .data = admin};
        CHECK(router_add(admin->router, &route, NULL, NULL) == ERR_OK);
    }
    admin->http = http_server_create(&(struct http_server_setup){.tasks = admin->tasks,
                                                                 .options = &admin->options,
                                                                 .router = admin->router,
                                                                 .on_room = on_room,
                                                                 .data = admin});
}

static void begin_to_accept(struct admin *admin)
{
    admin->is_lent = false;
    listener_start(admin->watch->loop, &admin->listener, admin->fd, on_connection);
    admin->listener.may_accept = may_accept;
}

/* The inherited socket, if it is the right one. */
static bool is_inherited(struct admin *admin)
{
    struct addr addr;
    int fd = admin->inherited;

    admin->inherited = -1;
    if (fd < 0)
        return false;
    if (addr_of_socket(fd, &addr) && addr_equal(&addr, &admin->addr)) {
        admin->fd = fd;
        return true;
    }
    close(fd);
    return false;
}

static enum err open_socket(struct admin *admin, const struct settings *settings,
                            struct activation *handed)
{
    admin->fd = handed != NULL ? activation_take(handed, &admin->addr) : -1;
    admin->is_handed = admin->fd >= 0;
    if (admin->is_handed)
        return ERR_OK;
    mode_t before = umask(0117); /* the user's and the group's */
    enum err err = listener_socket(&admin->addr, settings->server.backlog, 0, &admin->fd);

    umask(before);
    return err;
}

enum err admin_own(struct admin *admin, const struct settings *settings, struct activation *handed,
                   char problem[INI_PROBLEM_SIZE])
{
    char text[ADDR_TEXT_SIZE];
    bool is_unix = settings->admin.storage.ss_family == AF_UNIX;

    enum err err = ERR_OK;

    if (admin->tasks != NULL) {
        http_server_resume(admin->http);
        begin_to_accept(admin);
        return ERR_OK;
    }
    admin->is_lent = false;
    admin->addr = settings->admin;
    if (!is_inherited(admin) && admin->addr.len > 0)
        err = open_socket(admin, settings, handed);
    if (admin->addr.len == 0)
        return ERR_OK;
    addr_format(&admin->addr, text);
    if (err != ERR_OK) {
        snprintf(problem, INI_PROBLEM_SIZE, "admin: %s: %s", text, strerror(errno));
        return err;
    }
    start(admin);
    begin_to_accept(admin);
    log_info("admin listener: %s%s", is_unix ? "" : "http://", text);
    return ERR_OK;
}

static void on_drained(void *data)
{
    (void)data; /* nobody waits for that */
}

void admin_lend(struct admin *admin)
{
    admin->is_lent = true;
    if (admin->tasks == NULL)
        return;
    listener_stop(&admin->listener);
    http_server_drain(admin->http, on_drained, admin);
}

static void unlink_socket(const struct admin *admin)
{
    const struct sockaddr_un *name = (const struct sockaddr_un *)(const void *)&admin->addr.storage;

    if (!admin->is_lent && !admin->is_handed && admin->addr.storage.ss_family == AF_UNIX &&
        name->sun_path[0] != '\0')
        unlink(name->sun_path);
}

void admin_close(struct admin *admin)
{
    if (admin->tasks == NULL)
        return;
    listener_stop(&admin->listener);
    unlink_socket(admin);
    close(admin->fd);
    (void)http_server_abort(admin->http);
    for (int i = 0; i < CLOSING_TURNS && admin->tasks->scopes_count > 0; i++)
        loop_turn(admin->watch->loop, 0);
    http_server_destroy(admin->http);
    field_clear(&http_option_table, &admin->options);
    router_destroy(admin->router);
    tasks_destroy(admin->tasks);
    admin->tasks = NULL;
    admin->fd = -1;
}

void admin_abandon(const struct admin *admin)
{
    if (admin->inherited >= 0)
        close(admin->inherited);
    if (admin->tasks == NULL)
        return;
    http_server_abandon(admin->http);
    close(admin->listener._spare);
    close(admin->fd);
}
