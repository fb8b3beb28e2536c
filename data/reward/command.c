/* Words of a shell command, and what is in the files that they name. */
#include "data/reward/command.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/hash.h"
#include "data/file.h"
#include "data/text.h"

bool command_plain(char c)
{
    return isalnum((unsigned char)c) || strchr("_./-+,@%:", c);
}

/* A word of a shell command that begins at p: its length, quotes included, and its text without them. Words with anything that
 * the shell would make more of are none: length 0. */
static size_t word_at(const char *p, char *text, size_t size)
{
    char quote = *p == '\'' || *p == '"' ? *p : 0;
    size_t n = 0;
    const char *from = p + (quote != 0);
    while (from[n] && (quote ? from[n] != quote && !strchr("$`\\", from[n]) : command_plain(from[n]))) n++;
    const char *end = from + n + (quote != 0);
    if (!n || n >= size || (quote && from[n] != quote)) return 0;
    if (*end && !isspace((unsigned char)*end) && !strchr(";|&<>)", *end)) return 0;
    snprintf(text, size, "%.*s", (int)n, from);
    return (size_t)(end - p);
}

static bool begins_word(const char *p, const char *command)
{
    return p == command || isspace((unsigned char)p[-1]) || strchr(";|&<>(", p[-1]);
}

size_t command_word_at(const char *p, const char *command, char *word, size_t size)
{
    return begins_word(p, command) ? word_at(p, word, size) : 0;
}

bool command_word(const char **at, const char *command, char *word, size_t size)
{
    for (const char *p = *at; *p; p++) {
        size_t length = command_word_at(p, command, word, size);
        if (!length) continue;
        *at = p + length;
        return true;
    }
    return false;
}

static bool is_file(const char *path)
{
    struct stat is;
    return stat(path, &is) == 0 && S_ISREG(is.st_mode) && is.st_size < (64 << 20);
}

uint64_t command_hash(const char *command)
{
    char word[4096];
    uint64_t h = hash_bytes(command, strlen(command) + 1, 0);
    const char *at = command;
    while (command_word(&at, command, word, sizeof word)) {
        Status st = {0};
        size_t n;
        char *bytes = is_file(word) ? file_read(word, &n, &st) : NULL;
        if (bytes != NULL) h = hash_bytes(bytes, n, h);
        free(bytes);
    }
    return hash_spread(h);
}
