/* base/span.h - a run of bytes that somebody else owns: pointer and length.
 *
 * Memory: a span owns nothing. Absent is ptr == NULL; empty is len == 0.
 */
#ifndef WEFT_BASE_SPAN_H
#define WEFT_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Passed by value. */
struct span {
    const char *ptr; /* the first byte, or NULL: absent */
    size_t len;      /* bytes */
};

/* A span over a string literal. */
#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})

/* For printf: "%.*s", SPAN_ARG(span). */
#define SPAN_ARG(span) (int)(span).len, (span).ptr

/* A span over a C string; absent for NULL. */
static inline struct span span_of(const char *text)
{
    return (struct span){text, text != NULL ? strlen(text) : 0};
}

/* Are the bytes the same? */
static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Are `len` bytes the same, ASCII letters in either case? */
bool span_is_nocase(const char *a, const char *b, size_t len);

/* Are the bytes the same, ASCII letters in either case? */
static inline bool span_equal_nocase(struct span a, struct span b)
{
    return a.len == b.len && span_is_nocase(a.ptr, b.ptr, a.len);
}

/* Without blanks and tabs at both ends. */
static inline struct span span_trim(struct span s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

#endif
