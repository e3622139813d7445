/* base/mem.c - the heap, without a NULL. */
#include "base/mem.h"
#include "base/check.h"
#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* The log needs no heap, so it can still say this. */
static _Noreturn void out_of_memory(size_t size)
{
    log_error("out of memory: %zu bytes were asked for", size);
    abort();
}

void *mem_alloc(size_t size)
{
    return mem_calloc(1, size);
}

void *mem_calloc(size_t count, size_t size)
{
    void *ptr = calloc(count > 0 ? count : 1, size > 0 ? size : 1);

    if (ptr == NULL)
        out_of_memory(size > 0 && count > SIZE_MAX / size ? SIZE_MAX : count * size);
    return ptr;
}

void *mem_realloc(void *ptr, size_t size)
{
    void *grown = realloc(ptr, size > 0 ? size : 1);

    if (grown == NULL)
        out_of_memory(size);
    return grown;
}

char *mem_copy(struct span bytes)
{
    char *copy;

    if (bytes.ptr == NULL)
        return NULL;
    CHECK(bytes.len < SIZE_MAX);
    copy = mem_alloc(bytes.len + 1);
    memcpy(copy, bytes.ptr, bytes.len);
    return copy;
}

void mem_free(void *ptr)
{
    free(ptr);
}

void mem_trim(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

char *mem_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int len;

    CHECK(format != NULL);
    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0)
        out_of_memory(0);
    return text;
}
