/* lib/fault.h - making the Nth call of a system function fail, in a test that wraps it.
 *
 * The test's entry in tests/CMakeLists.txt names the functions: weft_unit_test(net stream WRAP recv
 * send). One that is not named there is never touched, whatever is asked for here.
 * Loop:   the test's thread only.
 * Memory: one plan a function for the whole process.
 */
#ifndef WEFT_TESTS_LIB_FAULT_H
#define WEFT_TESTS_LIB_FAULT_H

#include <stddef.h>
#include <stdint.h>

/* What can be made to fail, where it is wrapped. */
enum fault_call {
    FAULT_ACCEPT4,
    FAULT_CONNECT,
    FAULT_EPOLL_CTL,
    FAULT_EPOLL_WAIT,
    FAULT_PREAD,
    FAULT_RECV,
    FAULT_SEND,
    FAULT_SENDFILE,
    FAULT_SOCKET,
    FAULT_COUNT
};

/* The next `good` calls go through, and the `bad` ones after these fail with errno `error`. */
void fault_plan(enum fault_call call, uint32_t good, uint32_t bad, int error);

/* send() and sendfile() take, and recv() gives, at most so many bytes a call; 0: no such limit. */
void fault_limit_bytes(enum fault_call call, size_t size);

/* How often it was called since fault_reset(), failed calls too. */
uint32_t fault_calls(enum fault_call call);

/* Forgets all plans, limits and counts. */
void fault_reset(void);

#endif
