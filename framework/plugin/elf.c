/* plugin/elf.c - reads a shared object's head, its segments and the note of the ABI. */
#include "plugin/elf.h"
#include "base/check.h"
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENTS_MAX = 256, NOTES_SIZE_MAX = 4096, NOTE_TYPE = 1 };

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#else
enum { MACHINE = EM_NONE }; /* not known: dlopen() finds out */
#endif

struct elf {
    int fd;        /* the caller's */
    uint64_t size; /* of the file */
    Elf64_Ehdr head;
    char *problem; /* the caller's, ELF_PROBLEM_SIZE bytes */
};

__attribute__((format(printf, 3, 4))) static enum err fail(struct elf *elf, enum err err,
                                                           const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(elf->problem, ELF_PROBLEM_SIZE, format, args);
    va_end(args);
    return err;
}

static enum err read_at(struct elf *elf, uint64_t offset, void *to, size_t size)
{
    ssize_t got;

    if (size > elf->size || offset > elf->size - size)
        return fail(elf, ERR_TOO_BIG, "is cut off: it has %llu bytes and should have more",
                    (unsigned long long)elf->size);
    got = pread(elf->fd, to, size, (off_t)offset);
    if (got < 0 || (size_t)got != size)
        return fail(elf, ERR_IO, "cannot be read: %s", got < 0 ? strerror(errno) : "it shrank");
    return ERR_OK;
}

static enum err check_head(struct elf *elf)
{
    static const char order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    const Elf64_Ehdr *head = &elf->head;
    uint64_t sections_end;
    enum err err;

    if (elf->size < sizeof elf->head)
        return fail(elf, ERR_SYNTAX, "is no shared object: not an ELF file");
    err = read_at(elf, 0, &elf->head, sizeof elf->head);
    if (err != ERR_OK)
        return err;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG) != 0)
        return fail(elf, ERR_SYNTAX, "is no shared object: not an ELF file");
    if (head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_ident[EI_DATA] != order ||
        (MACHINE != EM_NONE && head->e_machine != MACHINE))
        return fail(elf, ERR_UNSUPPORTED,
                    "is for another machine: ELF class %d, machine %d; here they are %d and %d",
                    head->e_ident[EI_CLASS], head->e_machine, ELFCLASS64, MACHINE);
    if (head->e_type != ET_DYN || head->e_phentsize != sizeof(Elf64_Phdr) || head->e_phnum == 0 ||
        head->e_phnum > SEGMENTS_MAX)
        return fail(elf, ERR_SYNTAX, "is no shared object: ELF type %d with %d segments",
                    head->e_type, head->e_phnum);
    sections_end = head->e_shoff + (uint64_t)head->e_shnum * head->e_shentsize;
    if (sections_end < head->e_shoff || sections_end > elf->size)
        return fail(elf, ERR_TOO_BIG, "is cut off: it has %llu bytes and should have %llu",
                    (unsigned long long)elf->size, (unsigned long long)sections_end);
    return ERR_OK;
}

static uint64_t round_up(uint64_t size, uint64_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

/* Looks for the note among those of one segment, `size` bytes at `notes`. */
static bool find_note(const char *notes, uint64_t size, uint64_t alignment, struct elf_note *note)
{
    uint64_t at = 0;

    while (size - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr head;
        uint64_t name_at = at + sizeof head, desc_at;

        memcpy(&head, notes + at, sizeof head);
        desc_at = round_up(name_at + head.n_namesz, alignment);
        if (desc_at > size || head.n_descsz > size - desc_at)
            return false;
        if (head.n_type == NOTE_TYPE && head.n_namesz == sizeof "weft" &&
            memcmp(notes + name_at, "weft", sizeof "weft") == 0 && head.n_descsz >= sizeof *note) {
            memcpy(note, notes + desc_at, sizeof *note);
            return true;
        }
        at = round_up(desc_at + head.n_descsz, alignment);
        if (at > size)
            return false;
    }
    return false;
}

static enum err look_at_segment(struct elf *elf, uint32_t index, struct elf_note *note,
                                bool *is_found)
{
    char notes[NOTES_SIZE_MAX];
    Elf64_Phdr segment;
    enum err err =
        read_at(elf, elf->head.e_phoff + index * sizeof segment, &segment, sizeof segment);

    if (err != ERR_OK)
        return err;
    if (segment.p_filesz > elf->size || segment.p_offset > elf->size - segment.p_filesz)
        return fail(elf, ERR_TOO_BIG, "is cut off: it has %llu bytes and should have more",
                    (unsigned long long)elf->size);
    if (segment.p_type != PT_NOTE || *is_found)
        return ERR_OK;
    if (segment.p_filesz > sizeof notes)
        return ERR_OK; /* ours is of a few bytes, and beside others of the same alignment */
    err = read_at(elf, segment.p_offset, notes, segment.p_filesz);
    if (err == ERR_OK)
        *is_found = find_note(notes, segment.p_filesz, segment.p_align == 8 ? 8 : 4, note);
    return err;
}

enum err elf_read_note(int fd, struct elf_note *note, char problem[ELF_PROBLEM_SIZE])
{
    struct elf elf = {.fd = fd, .problem = problem};
    bool is_found = false;
    struct stat status;
    enum err err;

    CHECK(fd >= 0);
    CHECK(note != NULL);
    if (fstat(fd, &status) != 0)
        return fail(&elf, ERR_IO, "cannot be read: %s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return fail(&elf, ERR_SYNTAX, "is no file");
    elf.size = (uint64_t)status.st_size;
    err = check_head(&elf);
    for (uint32_t i = 0; err == ERR_OK && i < elf.head.e_phnum; i++)
        err = look_at_segment(&elf, i, note, &is_found);
    if (err == ERR_OK && !is_found)
        err = fail(&elf, ERR_NOT_FOUND,
                   "is no plugin of weft: it has no note of the ABI, which "
                   "WEFT_PLUGIN() writes");
    return err;
}
