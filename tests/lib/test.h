/* lib/test.h - what every unit test includes first: cmocka, with the headers it wants before it.
 *
 * Loop:   none.
 * Memory: nothing is kept.
 */
#ifndef WEFT_TESTS_LIB_TEST_H
#define WEFT_TESTS_LIB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Skips the running test and prints `reason`; where the environment has WEFT_TEST_ALL=1, it fails
 * instead, since everything that tests can want is installed then. Does not come back. */
void test_skip(const char *reason);

#endif
