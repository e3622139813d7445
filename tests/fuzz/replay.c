/* fuzz/replay.c - runs a target without libFuzzer: each file of a folder, and many changed copies
 * of each, the same ones in every run. FUZZ_ROUNDS is how many of a file, 5,000 without it. */
#include "fuzz/fuzz.h"
#include "lib/random.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_MAX = 64 * 1024 };

/* What breaks parsers when it comes where it should not. */
static const char *const words[] = {"\r\n",
                                    "\r",
                                    "\n",
                                    "\0x",
                                    ":",
                                    ";",
                                    ",",
                                    " ",
                                    "\t",
                                    "0",
                                    "-1",
                                    "%00",
                                    "%2e",
                                    "\"",
                                    "\\",
                                    "=",
                                    "\x7f",
                                    "\xff",
                                    "chunked",
                                    "Content-Length: 5\r\n",
                                    "99999999999999999999",
                                    "0\r\n\r\n",
                                    "HTTP/1.1",
                                    "--",
                                    "[",
                                    "]",
                                    "${",
                                    "}"};

/* Changes a few places of the `size` bytes at `data`; returns the new size. */
static size_t change(uint8_t *data, size_t size, uint64_t *random)
{
    for (uint32_t times = 1 + random_below(random, 4); times > 0; times--) {
        size_t at = size > 0 ? random_below(random, (uint32_t)size) : 0;
        const char *word = words[random_below(random, sizeof(words) / sizeof(*words))];
        size_t len = word[0] == '\0' ? 1 : strlen(word);

        switch (random_below(random, 4)) {
        case 0:
            if (size > 0)
                data[at] = (uint8_t)random_below(random, 256);
            break;
        case 1:
            if (size > 0) {
                memmove(data + at, data + at + 1, size - at - 1);
                size--;
            }
            break;
        case 2:
            size = at;
            break;
        default:
            if (size + len <= INPUT_MAX) {
                memmove(data + at + len, data + at, size - at);
                memcpy(data + at, word, len);
                size += len;
            }
        }
    }
    return size;
}

/* The input that runs, for on_abort(). */
static const uint8_t *now;
static size_t now_size;

/* A target died (the sanitizers abort, too): its input goes to a file. */
static void on_abort(int number)
{
    static const char text[] = "the input is in fuzz-input\n";
    int fd = open("fuzz-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    (void)number;
    if (fd >= 0 && write(fd, now, now_size) == (ssize_t)now_size)
        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(1);
}

/* Runs the target on a copy of exactly `size` bytes, so that a sanitizer sees a byte too many. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    memcpy(copy, data, size);
    now = copy;
    now_size = size;
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void replay(const char *path, uint32_t rounds)
{
    static uint8_t seed[INPUT_MAX], data[INPUT_MAX];
    uint64_t random = 1;
    FILE *file = fopen(path, "rb");
    size_t size;

    MUST(file != NULL);
    size = fread(seed, 1, sizeof(seed), file);
    fclose(file);
    run(seed, size);
    for (uint32_t round = 0; round < rounds; round++) {
        size_t changed;

        memcpy(data, seed, size);
        changed = change(data, size, &random);
        run(data, changed);
    }
}

int main(int argc, char **argv)
{
    const char *text = getenv("FUZZ_ROUNDS");
    uint32_t rounds = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : 5000, files = 0;
    DIR *folder = argc > 1 ? opendir(argv[1]) : NULL;
    struct dirent *entry;
    char path[4096];

    MUST(folder != NULL);
    signal(SIGABRT, on_abort);
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        replay(path, rounds);
        files++;
    }
    closedir(folder);
    printf("%u seeds, %u changed ones of each\n", files, rounds);
    MUST(files > 0);
    return 0;
}
