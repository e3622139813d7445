/* net/resolve.c - names to addresses without blocking, through c-ares.
 *
 * A question:  ──▶ WAITING (its name is being looked up) ──▶ READY (in the ready list) ──▶ told
 *                └─▶ READY (a literal address, localhost, or the answer is still good)
 *
 * A name:      ──▶ ASKED (has a look-up) ──▶ GOOD (addresses, or a failure, until good_until_ms)
 *                    ▲                         │ somebody asks after that
 *                    └─────────────────────────┘
 *
 * A look-up that has not ended after LOOK_UP_MS is given up: its name is answered without it, and
 * what c-ares still says about it is thrown away (it cannot cancel a single one).
 *
 * c-ares tells us which sockets to watch (on_socket_state), and we tell it when one is ready or its
 * time has come. It is called only from here, and each time `rearm` asks for its next deadline.
 *
 * Cancelled: out of whichever list it is in. The look-up goes on for the next one who asks.
 */
#include "net/resolve.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "loop/timer.h"

#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>

enum {
    NAMES_MAX = 1024,
    NAME_LEN_MAX = 254, /* with a dot at the end */
    TTL_S_MAX = 300,
    TTL_S_MIN = 1,
    FAILURE_MS = 2000,
    LOOK_UP_MS = 5000,
    TRY_MS = 1000, /* the second try waits twice as long */
    TRIES = 2,
};

static const char CONFIG_PATH[] = "/etc/resolv.conf";

/* A name that was asked for, and what is known of it. */
struct name {
    struct list used;       /* among the resolver's names, the one used last at the end */
    char *text;             /* lower case; owned */
    size_t len;             /* of text */
    struct look_up *asked;  /* NULL: none is under way */
    struct list waiting;    /* questions */
    struct addr *addrs;     /* without port; owned; kept while refreshes fail */
    uint32_t count;         /* of addrs */
    enum err err;           /* where there are none */
    uint64_t good_until_ms; /* asked again after this */
};

/* A question that c-ares works on. */
struct look_up {
    struct resolver *resolver;
    struct name *name;     /* NULL: given up */
    struct timer deadline; /* until then */
};

/* A socket of c-ares. */
struct watch {
    struct list link; /* in the resolver's list */
    struct io io;     /* of fd */
    struct resolver *resolver;
    int fd; /* c-ares owns it */
};

struct resolver {
    struct loop *loop;
    char *servers; /* NULL: those of CONFIG_PATH; owned */
    ares_channel channel;
    struct timespec config_time; /* CONFIG_PATH was changed then */
    struct timer next;           /* c-ares wants to be called then */
    struct list watches;
    struct table names;
    struct list used;        /* the names, the one used last at the end */
    uint32_t look_ups_count; /* that c-ares has not ended */
    bool is_ending;
};

static void rearm(struct resolver *resolver);

/* Telling */

static void on_told(struct ready *ready)
{
    struct resolve *request = CONTAINER_OF(ready, struct resolve, _ready);

    request->_fn(request, request->_err);
}

static void tell(struct resolver *resolver, struct resolve *request, const struct addr *addrs,
                 uint32_t count, enum err err)
{
    CHECK(count <= RESOLVE_ADDRS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        request->addrs[i] = addrs[i];
        addr_set_port(&request->addrs[i], request->_port);
    }
    request->count = count;
    request->good_ms = TTL_S_MAX * 1000;
    request->_err = err;
    ready_start(resolver->loop, &request->_ready, on_told);
}

static void tell_name(struct resolver *resolver, struct resolve *request, const struct name *name)
{
    uint64_t now_ms = loop_now_ms(resolver->loop);

    tell(resolver, request, name->addrs, name->count, name->count > 0 ? ERR_OK : name->err);
    request->good_ms = name->good_until_ms > now_ms ? (uint32_t)(name->good_until_ms - now_ms) : 0;
}

/* What an answer means for a name */

static void keep_failure(struct resolver *resolver, struct name *name, enum err err)
{
    name->err = err;
    name->good_until_ms = loop_now_ms(resolver->loop) + FAILURE_MS;
    if (err != ERR_UNKNOWN_NAME)
        return; /* what was known before is better than nothing */
    mem_free(name->addrs);
    name->addrs = NULL;
    name->count = 0;
}

static uint32_t take_family(const struct ares_addrinfo *answer, int family,
                            struct addr addrs[RESOLVE_ADDRS_MAX])
{
    const struct ares_addrinfo_node *node;
    uint32_t count = 0;

    for (node = answer->nodes; node != NULL && count < RESOLVE_ADDRS_MAX; node = node->ai_next) {
        if (node->ai_family != family || node->ai_addrlen > sizeof addrs->storage)
            continue;
        addrs[count] = (struct addr){.len = (socklen_t)node->ai_addrlen};
        memcpy(&addrs[count].storage, node->ai_addr, node->ai_addrlen);
        count++;
    }
    return count;
}

static uint64_t ttl_ms(const struct ares_addrinfo *answer)
{
    int ttl_s = TTL_S_MAX;

    for (const struct ares_addrinfo_node *node = answer->nodes; node != NULL; node = node->ai_next)
        ttl_s = node->ai_ttl < ttl_s ? node->ai_ttl : ttl_s;
    for (const struct ares_addrinfo_cname *alias = answer->cnames; alias; alias = alias->next)
        ttl_s = alias->ttl < ttl_s ? alias->ttl : ttl_s;
    return (ttl_s > TTL_S_MIN ? (uint64_t)ttl_s : TTL_S_MIN) * 1000;
}

static void keep_answer(struct resolver *resolver, struct name *name,
                        const struct ares_addrinfo *answer)
{
    struct addr ipv6[RESOLVE_ADDRS_MAX];
    struct addr ipv4[RESOLVE_ADDRS_MAX];
    uint32_t ipv6_count = take_family(answer, AF_INET6, ipv6);
    uint32_t ipv4_count = take_family(answer, AF_INET, ipv4);

    mem_free(name->addrs);
    name->addrs = mem_calloc(RESOLVE_ADDRS_MAX, sizeof *name->addrs);
    name->count = 0;
    for (uint32_t i = 0; i < RESOLVE_ADDRS_MAX; i++) {
        if (i < ipv6_count && name->count < RESOLVE_ADDRS_MAX)
            name->addrs[name->count++] = ipv6[i];
        if (i < ipv4_count && name->count < RESOLVE_ADDRS_MAX)
            name->addrs[name->count++] = ipv4[i];
    }
    if (name->count == 0) {
        keep_failure(resolver, name, ERR_UNKNOWN_NAME);
        return;
    }
    name->addrs = mem_realloc(name->addrs, name->count * sizeof *name->addrs);
    name->good_until_ms = loop_now_ms(resolver->loop) + ttl_ms(answer);
}

static enum err err_of(int status)
{
    switch (status) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_ENONAME:
    case ARES_EBADNAME:
        return ERR_UNKNOWN_NAME;
    case ARES_ETIMEOUT:
        return ERR_TIMED_OUT;
    default:
        return ERR_UNREACHABLE;
    }
}

static void answer_all(struct resolver *resolver, struct name *name)
{
    struct list *link;

    while ((link = list_first(&name->waiting)) != NULL) {
        list_remove(link);
        tell_name(resolver, CONTAINER_OF(link, struct resolve, _link), name);
    }
}

/* Looking up */

static void on_deadline(struct timer *timer)
{
    struct look_up *look_up = CONTAINER_OF(timer, struct look_up, deadline);
    struct name *name = look_up->name;

    CHECK(name->asked == look_up);
    name->asked = NULL;
    look_up->name = NULL;
    log_debug("name %s: no answer in %d ms", name->text, LOOK_UP_MS);
    keep_failure(look_up->resolver, name, ERR_TIMED_OUT);
    answer_all(look_up->resolver, name);
}

/* c-ares calls it once for each look-up, perhaps from inside ares_getaddrinfo(). */
static void on_answer(void *data, int status, int timeouts, struct ares_addrinfo *answer)
{
    struct look_up *look_up = data;
    struct resolver *resolver = look_up->resolver;
    struct name *name = look_up->name;

    (void)timeouts;
    timer_stop(&look_up->deadline);
    resolver->look_ups_count--;
    mem_free(look_up);
    if (name != NULL && !resolver->is_ending) {
        name->asked = NULL;
        if (status == ARES_SUCCESS)
            keep_answer(resolver, name, answer);
        else
            keep_failure(resolver, name, err_of(status));
        answer_all(resolver, name);
    }
    ares_freeaddrinfo(answer);
}

static void open_channel(struct resolver *resolver);

/* The file has another time than when the channel was opened. */
static bool is_config_new(const struct resolver *resolver)
{
    struct stat status;

    if (resolver->servers != NULL || stat(CONFIG_PATH, &status) != 0)
        return false;
    return status.st_mtim.tv_sec != resolver->config_time.tv_sec ||
           status.st_mtim.tv_nsec != resolver->config_time.tv_nsec;
}

static void look_up(struct resolver *resolver, struct name *name)
{
    const struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
    struct look_up *asked;

    if (resolver->look_ups_count == 0 && is_config_new(resolver)) {
        ares_destroy(resolver->channel);
        open_channel(resolver);
    }
    asked = mem_alloc(sizeof *asked);
    asked->resolver = resolver;
    asked->name = name;
    name->asked = asked;
    resolver->look_ups_count++;
    timer_start(resolver->loop, &asked->deadline, LOOK_UP_MS, on_deadline);
    ares_getaddrinfo(resolver->channel, name->text, NULL, &hints, on_answer, asked);
    rearm(resolver); /* by now it may be answered and freed */
}

/* Names */

static void free_name(struct resolver *resolver, struct name *name)
{
    CHECK(name->asked == NULL);
    CHECK(list_is_empty(&name->waiting));
    (void)table_remove(&resolver->names, (struct span){name->text, name->len});
    list_remove(&name->used);
    mem_free(name->addrs);
    mem_free(name->text);
    mem_free(name);
}

/* Makes room for one more: forgets who was not used for longest, but none that somebody waits
 * for. */
static void trim(struct resolver *resolver)
{
    LIST_EACH (&resolver->used, link) {
        struct name *name = CONTAINER_OF(link, struct name, used);

        if (resolver->names.count < NAMES_MAX)
            return;
        if (name->asked == NULL && list_is_empty(&name->waiting))
            free_name(resolver, name);
    }
}

static struct name *find_name(struct resolver *resolver, struct span text)
{
    struct name *name = table_get(&resolver->names, text);

    if (name == NULL) {
        trim(resolver);
        name = mem_alloc(sizeof *name);
        name->text = mem_copy(text);
        name->len = text.len;
        list_init(&name->waiting);
        (void)table_set(&resolver->names, text, name);
    }
    list_remove(&name->used);
    list_append(&resolver->used, &name->used);
    return name;
}

/* c-ares' sockets and time */

static void on_next(struct timer *timer)
{
    struct resolver *resolver = CONTAINER_OF(timer, struct resolver, next);

    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    rearm(resolver);
}

static void rearm(struct resolver *resolver)
{
    struct timeval wait;

    if (ares_timeout(resolver->channel, NULL, &wait) == NULL)
        timer_stop(&resolver->next);
    else
        timer_start(resolver->loop, &resolver->next,
                    (uint64_t)wait.tv_sec * 1000 + (uint64_t)wait.tv_usec / 1000 + 1, on_next);
}

static void on_socket(struct io *io, uint32_t events)
{
    struct watch *watch = CONTAINER_OF(io, struct watch, io);
    struct resolver *resolver = watch->resolver;
    bool is_broken = (events & (IO_ERROR | IO_HANGUP)) != 0;
    int to_read = (events & IO_READ) != 0 || is_broken ? watch->fd : ARES_SOCKET_BAD;
    int to_write = (events & IO_WRITE) != 0 ? watch->fd : ARES_SOCKET_BAD;

    ares_process_fd(resolver->channel, to_read, to_write); /* this may end the watch */
    rearm(resolver);
}

static struct watch *find_watch(struct resolver *resolver, int fd)
{
    LIST_EACH (&resolver->watches, link) {
        struct watch *watch = CONTAINER_OF(link, struct watch, link);

        if (watch->fd == fd)
            return watch;
    }
    return NULL;
}

/* c-ares calls it when a socket is opened, wanted for something else, or about to be closed. */
static void on_socket_state(void *data, ares_socket_t fd, int is_to_read, int is_to_write)
{
    struct resolver *resolver = data;
    struct watch *watch = find_watch(resolver, fd);
    uint32_t events = (is_to_read ? IO_READ : 0u) | (is_to_write ? IO_WRITE : 0u);

    if (watch != NULL && events != 0) {
        io_update(&watch->io, events);
    } else if (watch != NULL) {
        io_stop(&watch->io);
        list_remove(&watch->link);
        mem_free(watch);
    } else if (events != 0) {
        watch = mem_alloc(sizeof *watch);
        watch->resolver = resolver;
        watch->fd = fd;
        list_append(&resolver->watches, &watch->link);
        io_start(resolver->loop, &watch->io, fd, events, on_socket);
    }
}

/* Life */

static void open_channel(struct resolver *resolver)
{
    struct ares_options options = {.timeout = TRY_MS,
                                   .tries = TRIES,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = resolver};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    struct stat status;

    if (resolver->servers != NULL)
        mask |= ARES_OPT_DOMAINS; /* none: the machine's search list is not asked either */
    if (stat(CONFIG_PATH, &status) == 0)
        resolver->config_time = status.st_mtim;
    CHECK(ares_init_options(&resolver->channel, &options, mask) == ARES_SUCCESS);
    if (resolver->servers != NULL)
        CHECK(ares_set_servers_ports_csv(resolver->channel, resolver->servers) == ARES_SUCCESS);
}

struct resolver *resolver_create(struct loop *loop, const char *servers)
{
    struct resolver *resolver = mem_alloc(sizeof *resolver);

    resolver->loop = loop;
    resolver->servers = mem_copy(span_of(servers));
    list_init(&resolver->watches);
    list_init(&resolver->used);
    table_init(&resolver->names);
    CHECK(ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS);
    open_channel(resolver);
    return resolver;
}

void resolver_destroy(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    resolver->is_ending = true;
    ares_destroy(resolver->channel); /* ends all look-ups and watches */
    CHECK(resolver->look_ups_count == 0);
    CHECK(list_is_empty(&resolver->watches));
    timer_stop(&resolver->next);
    LIST_EACH (&resolver->used, link) {
        struct name *name = CONTAINER_OF(link, struct name, used);

        name->asked = NULL;
        free_name(resolver, name);
    }
    table_deinit(&resolver->names);
    ares_library_cleanup();
    mem_free(resolver->servers);
    mem_free(resolver);
}

/* Asking */

static bool ends_with(struct span text, struct span end)
{
    return text.len >= end.len && memcmp(text.ptr + text.len - end.len, end.ptr, end.len) == 0;
}

/* Lower case, without the dot of a full name. False: no name at all. */
static bool normalise(struct span host, char text[NAME_LEN_MAX], struct span *name)
{
    if (host.len > 0 && host.ptr[host.len - 1] == '.')
        host.len--;
    if (host.len == 0 || host.len >= NAME_LEN_MAX)
        return false;
    for (size_t i = 0; i < host.len; i++) {
        char c = host.ptr[i];

        if (c <= ' ' || c == 0x7f)
            return false;
        text[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    *name = (struct span){text, host.len};
    return true;
}

/* RFC 6761: localhost and what is below it is this machine, whatever servers say. */
static bool is_localhost(struct span name)
{
    return span_equal(name, SPAN("localhost")) || ends_with(name, SPAN(".localhost"));
}

static void tell_localhost(struct resolver *resolver, struct resolve *request)
{
    struct addr addrs[2];

    CHECK(addr_from_ip(SPAN("::1"), 0, &addrs[0]));
    CHECK(addr_from_ip(SPAN("127.0.0.1"), 0, &addrs[1]));
    tell(resolver, request, addrs, 2, ERR_OK);
}

static void ask(struct resolver *resolver, struct resolve *request, struct span text)
{
    struct name *name = find_name(resolver, text);

    if (name->asked == NULL && loop_now_ms(resolver->loop) < name->good_until_ms) {
        tell_name(resolver, request, name);
        return;
    }
    list_append(&name->waiting, &request->_link);
    if (name->asked == NULL)
        look_up(resolver, name);
}

void resolve_start(struct resolver *resolver, struct resolve *request, struct span host,
                   uint16_t port, resolve_fn *fn)
{
    char text[NAME_LEN_MAX];
    struct addr literal;
    struct span name;

    CHECK(resolver != NULL);
    CHECK(fn != NULL);
    request->count = 0;
    request->_port = port;
    request->_fn = fn;
    list_init(&request->_link);
    list_init(&request->_ready._link);
    if (addr_from_ip(host, port, &literal))
        tell(resolver, request, &literal, 1, ERR_OK);
    else if (!normalise(host, text, &name))
        tell(resolver, request, NULL, 0, ERR_UNKNOWN_NAME);
    else if (is_localhost(name))
        tell_localhost(resolver, request);
    else
        ask(resolver, request, name);
}

void resolve_cancel(struct resolve *request)
{
    list_remove(&request->_link);
    ready_stop(&request->_ready);
}
