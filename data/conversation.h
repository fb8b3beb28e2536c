/* A conversation as a list of messages, from a user's file to the chat template: never one string with marks in it.
 *
 * A message is {"role": system | user | assistant | tool, "content": text or null, "reasoning_content"?, "tool_calls"?}. Texts
 * hold no U+0000: it becomes U+FFFD. */
#ifndef DATA_CONVERSATION_H
#define DATA_CONVERSATION_H

#include "data/json.h"

/* Which turns of the assistant are trained: all in which it speaks, the last, also those in which it only calls tools; or every
 * token of the conversation (pre-training). The last turn always is. */
typedef enum { TURNS_ALL, TURNS_LAST, TURNS_CALLS, TURNS_WHOLE } Turns;
const char *turns_name(int k); /* "all", "last", "calls"; NULL after them */

/* A JSON string's text, U+0000 replaced; NULL when v is no string. Caller frees. */
char *json_text_copy(const Json *v);

/* The messages of a row's list, OpenAI's and TRL's way or ShareGPT's ({"from": human | gpt | system | tool, "value"}): contents
 * may be strings, null beside tool calls, or lists of text parts; the thought may be called reasoning_content, reasoning or
 * thinking. Fails with the number of the message on another role, on parts that are no text, and on keys that carry something
 * else (function_call, audio, ..). NULL: failed. */
Json *conversation_read(const Json *list, Status *st);

Json *conversation_new(void);
/* Appends {"role", "content"}. */
void conversation_add(Json *messages, const char *role, const char *content);
/* One message of a user. */
Json *conversation_of_prompt(const char *prompt);
/* The messages [from, to) as a list of their own. */
Json *conversation_part(const Json *messages, size_t from, size_t to);
bool conversation_ends_with_assistant(const Json *messages);

/* What an assistant's message says, its thought in <think> tags before its content. Caller frees. */
char *conversation_said(const Json *message);
/* For people and reward programs: a single user's message is its content; else lines "role: content". Caller frees. */
char *conversation_text(const Json *messages);

#endif
