/* plugin/elf.h - what can be known of a shared object without running any of its code.
 *
 * Loop:   reads a file with pread(); at start only.
 * Memory: nothing is kept.
 * Limits: 256 segments, 4 KiB of notes a segment; every number of the file is checked before use.
 */
#ifndef WEFT_PLUGIN_ELF_H
#define WEFT_PLUGIN_ELF_H

#include "base/error.h"
#include <stdint.h>

/* Room for a problem's text, with its NUL. */
enum { ELF_PROBLEM_SIZE = 160 };

/* The ABI that a plugin asks for: its note `weft`. */
struct elf_note {
    uint32_t major; /* of the contract */
    uint32_t minor; /* that it needs at least */
};

/* Checks that `fd` is a whole shared object for this machine, and reads its note. On failure
 * `problem` completes "books.so ...": ERR_SYNTAX (no such file), ERR_UNSUPPORTED (another machine),
 * ERR_TOO_BIG (cut off), ERR_NOT_FOUND (no note), ERR_IO. */
enum err elf_read_note(int fd, struct elf_note *note, char problem[ELF_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
