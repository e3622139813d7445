/* Goal: fibers do the same on processors for which there is no assembly: the tests of fibers, with
 * the fiber files built for ucontext. */
#include "test_fiber.c"
