/* The words of a reward program's shell command, and the files among them. */
#ifndef DATA_COMMAND_H
#define DATA_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a word with this character needs no quotes. */
bool command_plain(char c);
/* The length, quotes included, of the plain word that begins at p (a place in the command), and its text without quotes; 0: none
 * begins there. */
size_t command_word_at(const char *p, const char *command, char *word, size_t size);
/* The next plain word of a command at or after *at, which moves behind it; quotes are taken off. False: there is none. */
bool command_word(const char **at, const char *command, char *word, size_t size);

/* A hash of the command and of the bytes of every file that it names, so that an edited program is another one. */
uint64_t command_hash(const char *command);

#endif
