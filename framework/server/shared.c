/* server/shared.c - a list of blocks under a lock, and the blocks behind it. */
#include "server/shared.h"
#include "base/check.h"
#include "base/mem.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64 }; /* a cache line: counters of two blocks do not disturb one another */

struct block {
    char name[SHARED_NAME_MAX + 1]; /* "" behind the last one */
    uint64_t offset;                /* in the memory for blocks */
    uint64_t size;                  /* bytes asked for */
};

/* What all processes see. */
struct directory {
    pthread_mutex_t lock;                   /* of the rest; robust: its owner may be killed */
    uint64_t used;                          /* bytes of the memory for blocks */
    struct block blocks[SHARED_BLOCKS_MAX]; /* in the order of their making */
};

struct shared {
    struct directory *directory; /* mapped, with the blocks behind it */
    unsigned char *memory;       /* for blocks */
    size_t size;                 /* of it */
};

static size_t round_up(size_t size)
{
    return (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static size_t mapped_size(const struct shared *shared)
{
    return round_up(sizeof *shared->directory) + shared->size;
}

static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    CHECK(pthread_mutexattr_init(&attributes) == 0);
    CHECK(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(lock, &attributes) == 0);
    pthread_mutexattr_destroy(&attributes);
}

struct shared *shared_create(size_t size)
{
    struct shared *shared = mem_calloc(1, sizeof *shared);
    void *mapped;

    shared->size = round_up(size);
    mapped = mmap(NULL, mapped_size(shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        mem_free(shared);
        return NULL;
    }
    shared->directory = mapped;
    shared->memory = (unsigned char *)mapped + round_up(sizeof *shared->directory);
    init_lock(&shared->directory->lock);
    return shared;
}

void shared_destroy(struct shared *shared)
{
    if (shared == NULL)
        return;
    CHECK(munmap(shared->directory, mapped_size(shared)) == 0);
    mem_free(shared);
}

/* False: the lock is not one any more. */
static bool take_lock(pthread_mutex_t *lock)
{
    int code = pthread_mutex_lock(lock);

    if (code == EOWNERDEAD) /* it died in between: each step below leaves the list good */
        code = pthread_mutex_consistent(lock);
    return code == 0;
}

static bool is_sound(const struct shared *shared, const struct block *block)
{
    return block->offset % ALIGN == 0 && block->offset <= shared->size &&
           block->size <= shared->size - block->offset;
}

/* A new one at `*block`, the first that is free. */
static enum err add(struct shared *shared, struct block *block, const char *name, size_t size)
{
    struct directory *directory = shared->directory;

    if (directory->used % ALIGN != 0 || directory->used > shared->size)
        return ERR_IO;
    if (size > shared->size - directory->used)
        return ERR_TOO_BIG;
    block->offset = directory->used;
    block->size = size;
    directory->used += round_up(size);
    memcpy(block->name, name, strlen(name) + 1); /* from here on it is found */
    return ERR_OK;
}

static enum err find(struct shared *shared, const char *name, size_t size, void **found)
{
    struct directory *directory = shared->directory;
    enum err err = ERR_OK;
    uint32_t i = 0;

    while (i < SHARED_BLOCKS_MAX && directory->blocks[i].name[0] != '\0' &&
           (strncmp(directory->blocks[i].name, name, SHARED_NAME_MAX + 1) != 0 ||
            directory->blocks[i].size != size))
        i++;
    if (i == SHARED_BLOCKS_MAX)
        return ERR_TOO_BIG;
    if (directory->blocks[i].name[0] == '\0')
        err = add(shared, &directory->blocks[i], name, size);
    if (err == ERR_OK && !is_sound(shared, &directory->blocks[i]))
        err = ERR_IO;
    if (err == ERR_OK)
        *found = shared->memory + directory->blocks[i].offset;
    return err;
}

enum err shared_find(struct shared *shared, const char *name, size_t size, void **block)
{
    enum err err;

    if (name[0] == '\0' || strlen(name) > SHARED_NAME_MAX || size == 0)
        return ERR_INVALID;
    if (!take_lock(&shared->directory->lock))
        return ERR_IO;
    err = find(shared, name, size, block);
    pthread_mutex_unlock(&shared->directory->lock);
    return err;
}
