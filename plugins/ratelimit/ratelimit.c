/* ratelimit - so many requests a second, and no more: by address, or by what a header says.
 *
 *     [plugin.limit]
 *     path = ratelimit.so
 *     mount = /api            what it is for; everything where it is left out
 *     rate = 10               requests a second that go on for ever
 *     burst = 20              and how many may come at once
 *
 * Counted over all workers, and through reloads, in a table that they share (weft_shared()): a
 * place a client, taken from whoever was quiet for longest where all are taken. Each place is a
 * number, the time at which its bucket would be full again (the generic cell rate algorithm, which
 * is a token bucket without a clock that ticks): one compare-and-swap a request.
 */
#include "../common/siphash.h"
#include "weft.h"

#include <arpa/inet.h>
#include <sys/random.h>
#include <time.h>

enum { WAYS = 8 }; /* places that a client may have; two cache lines */

struct place {
    uint64_t client;  /* hash of the key; 0: free */
    uint64_t full_us; /* when it has all its tokens again */
};

struct table {
    uint64_t key[2];       /* of the hashes; 0: not chosen yet */
    struct place places[]; /* `places_count` of them */
};

static struct table *table;
static int64_t places_count, rate, per_s, burst, order, ipv6_prefix;
static uint64_t each_us; /* a token takes so long to come */
static weft_str header;

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- who it is ---- */

/* An address as bytes. Whoever has one IPv6 address has 2^64 of them. */
static weft_str address_of(weft_ctx *ctx)
{
    weft_str peer = weft_peer(ctx);
    unsigned char bytes[16];
    int64_t bits = ipv6_prefix;

    if (peer.ptr == NULL || inet_pton(AF_INET6, peer.ptr, bytes) != 1)
        return peer;
    for (int i = 0; i < 16; i++, bits -= 8) {
        if (bits < 8)
            bytes[i] &= (unsigned char)(bits <= 0 ? 0 : 0xff << (8 - bits));
    }
    return weft_dup(ctx, (weft_str){(const char *)bytes, sizeof bytes});
}

/* Never 0. A request without the header counts with its address. */
static uint64_t client_of(weft_ctx *ctx)
{
    weft_str who = header.len > 0 ? weft_header(ctx, header.ptr) : (weft_str){NULL, 0};

    if (who.ptr == NULL)
        who = address_of(ctx);
    return siphash(table->key, who.ptr != NULL ? who.ptr : "", who.len) | 1;
}

/* Its place, or one that it takes from whoever was quiet for longest. Two workers that meet a
 * client for the first time at once may take two: it then gets one burst too many. */
static struct place *place_of(uint64_t client)
{
    uint64_t row = (client >> 1) % (uint64_t)(places_count / WAYS);
    struct place *places = &table->places[row * WAYS], *quiet = places;
    uint64_t before;

    for (int i = 0; i < WAYS; i++) {
        if (__atomic_load_n(&places[i].client, __ATOMIC_RELAXED) == client)
            return &places[i];
        if (__atomic_load_n(&places[i].full_us, __ATOMIC_RELAXED) <
            __atomic_load_n(&quiet->full_us, __ATOMIC_RELAXED))
            quiet = &places[i];
    }
    before = __atomic_load_n(&quiet->client, __ATOMIC_RELAXED);
    if (__atomic_compare_exchange_n(&quiet->client, &before, client, 0, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
        __atomic_store_n(&quiet->full_us, 0, __ATOMIC_RELAXED);
    return quiet;
}

/* ---- asking ---- */

/* Takes a token. 0, or how long until there is one. */
static uint64_t take_us(struct place *place)
{
    uint64_t now = now_us(), full = __atomic_load_n(&place->full_us, __ATOMIC_RELAXED), later;

    do {
        later = (full > now ? full : now) + each_us;
        if (later - now > (uint64_t)burst * each_us)
            return later - now - (uint64_t)burst * each_us;
    } while (!__atomic_compare_exchange_n(&place->full_us, &full, later, 0, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return 0;
}

static weft_status before(weft_ctx *ctx, void *self)
{
    uint64_t wait_us = take_us(place_of(client_of(ctx)));

    (void)self;
    if (wait_us == 0)
        return WEFT_OK;
    WEFT_TRY(
        weft_set_header(ctx, "Retry-After",
                        weft_fmt(ctx, "%llu", (unsigned long long)((wait_us + 999999) / 1000000))));
    return weft_problem(ctx, 429, "too many requests: try again later");
}

/* ---- at init ---- */

/* The first worker chooses; the others find what it chose. */
static weft_status choose_key(void)
{
    for (int i = 0; i < 2; i++) {
        uint64_t made, none = 0;
        if (getrandom(&made, sizeof made, 0) != sizeof made)
            return WEFT_E_UNSUPPORTED;
        __atomic_compare_exchange_n(&table->key[i], &none, made | 1, 0, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    }
    return WEFT_OK;
}

static weft_status read_settings(weft_host *host)
{
    WEFT_TRY(weft_setting_int(host, "rate", 1, 1000000, 10, &rate));
    WEFT_TRY(weft_setting_int(host, "per", 1, 86400, 1, &per_s));
    WEFT_TRY(weft_setting_int(host, "burst", 1, 1000000, 20, &burst));
    WEFT_TRY(weft_setting(host, "header", "", &header));
    WEFT_TRY(weft_setting_int(host, "ipv6_prefix", 1, 128, 64, &ipv6_prefix));
    WEFT_TRY(weft_setting_int(host, "clients", WAYS, 1 << 24, 65536, &places_count));
    WEFT_TRY(weft_setting_int(host, "order", INT32_MIN, INT32_MAX, -100, &order));
    places_count -= places_count % WAYS;
    each_us = (uint64_t)per_s * 1000000 / (uint64_t)rate;
    return WEFT_OK;
}

static weft_status init(weft_host *host, void **self)
{
    weft_filter_options options = {sizeof options, 0, NULL, before, NULL, NULL};
    weft_str name;

    (void)self;
    WEFT_TRY(read_settings(host));
    WEFT_TRY(weft_setting(host, "table", weft_instance(host).ptr, &name));
    WEFT_TRY(weft_shared(host, name.ptr,
                         sizeof *table + (size_t)places_count * sizeof table->places[0],
                         (void **)&table));
    WEFT_TRY(choose_key());
    options.order = (int32_t)order;
    return weft_filter(host, &options);
}

WEFT_PLUGIN("ratelimit", "1.0", init, NULL, NULL);
