/* base/check.h - what cannot happen, asserted in every build.
 *
 * A failed CHECK prints file, line, function and condition to the log and aborts: the master starts
 * a new worker. It is for our own mistakes only, never for bytes from a peer, a file or a plugin.
 */
#ifndef WEFT_BASE_CHECK_H
#define WEFT_BASE_CHECK_H

#include <stddef.h>
#include <stdint.h>

/* Aborts unless `cond` holds. One condition each, no side effects. */
#define CHECK(cond) \
    (__builtin_expect(!!(cond), 1) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #cond))

/* Aborts unless `ptr` is the living object that its magic number claims. */
#define CHECK_OBJ(ptr, number)           \
    do {                                 \
        CHECK((ptr) != NULL);            \
        CHECK((ptr)->magic == (number)); \
    } while (0)

/* The struct of `type` whose `member` `ptr` points at. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Says what failed and aborts. Use CHECK. */
_Noreturn void check_failed(const char *file, int line, const char *function, const char *cond);

#endif
