/* fuzz/messages.c - see messages.h. */
#include "fuzz/messages.h"

#include "base/arena.h"
#include "base/buf.h"
#include "fuzz/fuzz.h"
#include "http/trailer.h"

#include <string.h>

enum { FIELDS_MAX = 20 };

static const struct http_parser_limits limits = {1024, 4096, 4096, HTTP_EXCESS_BYTES};

/* One parse. */
struct parse {
    struct http_parser parser; /* the one that is tried */
    struct buf in;             /* what it has not taken */
    struct buf_pool pool;      /* of `in` */
    size_t delivered;          /* bytes so far */
    struct message now;        /* under way */
    bool is_interim;           /* that is an answer with more behind it */
    bool has_ended;            /* refused, or its last message was */
};

uint64_t messages_hash(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * 1099511628211u;
    return hash;
}

static void on_head(struct parse *parse, enum http_parser_kind kind)
{
    const struct http_head *head = parse->parser.head;

    memset(&parse->now, 0, sizeof(parse->now));
    parse->now.body_hash = MESSAGES_HASH;
    parse->now.fields = head->fields.count;
    MUST(head->fields.count <= FIELDS_MAX);
    if (kind == HTTP_PARSE_REQUESTS) {
        snprintf(parse->now.line, sizeof(parse->now.line), "%.*s %.*s", (int)head->method.len,
                 head->method.ptr, (int)head->target.len, head->target.ptr);
    } else {
        snprintf(parse->now.line, sizeof(parse->now.line), "%u", head->code);
        parse->is_interim = head->code < 200;
    }
}

/* The fields behind an answer's body, as they are taken from it. */
static void take_trailer(struct parse *parse, struct message *now)
{
    struct span section = parse->parser.trailer;
    struct arena_pool pool = {0};
    struct arena arena = {0};
    struct http_fields fields;

    parse->parser.trailer = (struct span){NULL, 0};
    if (section.len == 0)
        return;
    arena_pool_init(&pool, 1, NULL);
    arena_init(&arena, &pool);
    if (http_trailer_fields(&arena, section, FIELDS_MAX, &fields)) {
        MUST(fields.count <= FIELDS_MAX);
        for (uint32_t i = 0; i < fields.count; i++) {
            struct span name = fields.at[i].name, value = fields.at[i].value;

            MUST(name.ptr[name.len] == '\0' && value.ptr[value.len] == '\0');
            now->body_hash = messages_hash(now->body_hash, name.ptr, name.len);
            now->body_hash = messages_hash(now->body_hash, value.ptr, value.len);
        }
    }
    arena_deinit(&arena);
    arena_pool_deinit(&pool);
}

/* Notes the events of what is there. */
static void take(struct parse *parse, enum http_parser_kind kind, struct messages *found)
{
    struct span body;

    while (!parse->has_ended) {
        switch (http_parser_next(&parse->parser, &parse->in, &body)) {
        case HTTP_EVENT_MORE:
            return;
        case HTTP_EVENT_HEAD:
            on_head(parse, kind);
            break;
        case HTTP_EVENT_BODY:
            MUST(body.len > 0);
            parse->now.body_hash = messages_hash(parse->now.body_hash, body.ptr, body.len);
            parse->now.body_bytes += body.len;
            break;
        case HTTP_EVENT_END:
            parse->now.end = parse->delivered - parse->in.len;
            if (kind == HTTP_PARSE_ANSWERS)
                take_trailer(parse, &parse->now);
            found->at[found->count++] = parse->now;
            parse->has_ended = found->count == MESSAGES_MAX;
            if (kind == HTTP_PARSE_ANSWERS && !parse->is_interim)
                http_parser_answers_head(&parse->parser, found->count % 3 == 2);
            break;
        case HTTP_EVENT_REFUSED:
            MUST(parse->parser.refused != GUARD_OK);
            found->end = MESSAGES_REFUSED;
            parse->has_ended = true;
        }
    }
}

/* The peer closes. */
static void finish(struct parse *parse, struct messages *found)
{
    if (parse->has_ended)
        return;
    switch (http_parser_finish(&parse->parser)) {
    case HTTP_EVENT_END:
        parse->now.end = parse->delivered;
        found->at[found->count++] = parse->now;
        found->end = MESSAGES_CLOSED;
        break;
    case HTTP_EVENT_REFUSED:
        found->end = MESSAGES_MORE; /* cut off within a message: it wanted more */
        break;
    case HTTP_EVENT_MORE:
    case HTTP_EVENT_HEAD:
    case HTTP_EVENT_BODY:
        found->end = MESSAGES_CLOSED;
    }
}

void messages_parse(const uint8_t *data, size_t size, size_t cut, enum http_parser_kind kind,
                    struct messages *found)
{
    struct http_head *head = http_head_create(FIELDS_MAX);
    struct parse parse = {.delivered = cut};

    memset(found, 0, sizeof(*found));
    buf_pool_init(&parse.pool, 4, NULL);
    buf_init(&parse.in, &parse.pool);
    http_parser_init(&parse.parser, kind, head, &limits);
    buf_append(&parse.in, (struct span){(const char *)data, cut});
    take(&parse, kind, found);
    if (cut < size && !parse.has_ended) {
        parse.delivered = size;
        buf_append(&parse.in, (struct span){(const char *)data + cut, size - cut});
        take(&parse, kind, found);
    }
    finish(&parse, found);
    buf_release(&parse.in);
    buf_pool_deinit(&parse.pool);
    http_head_destroy(head);
}

bool messages_equal(const struct messages *a, const struct messages *b)
{
    if (a->count != b->count || a->end != b->end)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (strcmp(a->at[i].line, b->at[i].line) != 0 || a->at[i].fields != b->at[i].fields ||
            a->at[i].body_hash != b->at[i].body_hash || a->at[i].body_bytes != b->at[i].body_bytes)
            return false;
    return true;
}
