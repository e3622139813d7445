/* lib/dies.h - runs what must not survive in a process of its own.
 *
 * Loop:   none.
 * Memory: `output` is the caller's.
 */
#ifndef WEFT_TESTS_LIB_DIES_H
#define WEFT_TESTS_LIB_DIES_H

#include <stdbool.h>
#include <stddef.h>

/* Room for what is captured, with its NUL; the rest is dropped. */
enum { DIES_OUTPUT_SIZE = 16384 };

/* Runs fn(arg) in a child, with standard error going to `output`. True where the child died of a
 * signal or of a sanitizer's report; false where fn came back. */
bool dies(void (*fn)(void *arg), void *arg, char output[DIES_OUTPUT_SIZE]);

#endif
