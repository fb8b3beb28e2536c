/* Messages of a user's file: read, checked, shown. */
#include "data/conversation.h"

#include <stdlib.h>
#include <string.h>

#include "data/text.h"

const char *turns_name(int k)
{
    static const char *const names[] = {"all", "last", "calls"};
    return k >= 0 && k < 3 ? names[k] : NULL;
}

static void add_replacing_nul(Text *out, const char *s, size_t n)
{
    for (size_t done = 0; done < n;) {
        const char *nul = memchr(s + done, 0, n - done);
        size_t end = nul ? (size_t)(nul - s) : n;
        text_add_bytes(out, s + done, end - done);
        if (nul) text_add(out, "\xef\xbf\xbd");
        done = end + (nul != NULL);
    }
}

char *json_text_copy(const Json *v)
{
    size_t n;
    const char *s = json_string(v, &n);
    if (!s) return NULL;
    Text out = {0};
    add_replacing_nul(&out, s, n);
    return text_take(&out);
}

/* ---- reading ---- */

static const char *role_of(const Json *m)
{
    static const char *const names[][2] = {
        {"human", "user"}, {"gpt", "assistant"},       {"system", "system"},
        {"user", "user"},  {"assistant", "assistant"}, {"tool", "tool"},
    };
    const char *role = json_get_string(m, "role", NULL);
    if (!role) role = json_get_string(m, "from", NULL);
    for (size_t i = 0; role && i < sizeof names / sizeof *names; i++)
        if (!strcmp(role, names[i][0])) return names[i][1];
    return NULL;
}

static const Json *content_of(const Json *m)
{
    const Json *content = json_get(m, "content");
    return content || json_get(m, "role") ? content : json_get(m, "value");
}

/* Whether a value carries something: no null, no number or truth value, nothing empty. */
static bool says_something(const Json *v)
{
    size_t n = 0;
    if (json_is_string(v)) json_string(v, &n);
    else n = json_count(v);
    return n > 0;
}

static bool check_keys(const Json *m, size_t i, Status *st)
{
    static const char *const known[] = {"role",      "content",  "from",         "value", "reasoning_content",
                                        "reasoning", "thinking", "tool_calls",   "name",  "tool_call_id",
                                        "id",        "weight",   "content_type", "type"};
    const Json *value;
    for (size_t k = 0; k < json_count(m); k++) {
        const char *key = json_member(m, k, &value);
        bool listed = false;
        for (size_t j = 0; j < sizeof known / sizeof *known && !listed; j++) listed = !strcmp(key, known[j]);
        if (!listed && says_something(value))
            return fail(st, "message %zu has \"%s\", which would be left out: it is no key that r1 reads", i + 1, key);
    }
    return true;
}

/* A content that is a list of parts: {"type": "text", "text"}. */
static bool add_parts(Text *out, const Json *parts, size_t i, Status *st)
{
    for (size_t k = 0; k < json_count(parts); k++) {
        const Json *part = json_at(parts, k);
        char *text = json_text_copy(json_is_string(part) ? part : json_get(part, "text"));
        if (!text)
            return fail(st, "message %zu has a part of type \"%.40s\": only text is read", i + 1,
                        json_get_string(part, "type", "unknown"));
        text_add(out, text);
        free(text);
    }
    return true;
}

static bool set_content(Json *out, const Json *m, size_t i, Status *st)
{
    const Json *content = content_of(m);
    Text text = {0};
    if (json_is_string(content)) {
        size_t n;
        const char *s = json_string(content, &n);
        add_replacing_nul(&text, s, n);
    } else if (json_is_array(content)) {
        if (!add_parts(&text, content, i, st)) {
            free(text.p);
            return false;
        }
    } else if ((!content || json_is_null_value(content)) && json_count(json_get(m, "tool_calls")) > 0) {
        json_set(out, "content", json_new_null());
        return true;
    } else {
        return fail(st, "message %zu needs \"content\" as a string", i + 1);
    }
    char *s = text_take(&text);
    json_set(out, "content", json_new_text(s));
    free(s);
    return true;
}

/* The thought, under whichever of its names. */
static bool set_thought(Json *out, const Json *m, size_t i, Status *st)
{
    static const char *const names[] = {"reasoning_content", "reasoning", "thinking"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const Json *v = json_get(m, names[k]);
        if (!v || !says_something(v)) continue;
        char *text = json_text_copy(v);
        if (!text) return fail(st, "\"%s\" of message %zu must be a string", names[k], i + 1);
        json_set(out, "reasoning_content", json_new_text(text));
        free(text);
        return true;
    }
    return true;
}

static Json *read_message(const Json *m, size_t i, Status *st)
{
    const char *role = role_of(m);
    const Json *calls = json_get(m, "tool_calls");
    if (!role) {
        const char *given = json_get_string(m, "role", json_get_string(m, "from", NULL));
        if (given)
            fail(st, "message %zu: role \"%.40s\" is not read (system, user, assistant, tool are)", i + 1, given);
        else fail(st, "a message needs \"role\" and \"content\" as strings");
        return NULL;
    }
    Json *out = json_new_object();
    json_set(out, "role", json_new_text(role));
    bool assistant = !strcmp(role, "assistant");
    bool ok = check_keys(m, i, st) && set_content(out, m, i, st) && set_thought(out, m, i, st);
    if (ok && json_get(out, "reasoning_content") && !assistant)
        ok = fail(st, "message %zu: only an assistant's message may have a thought", i + 1);
    if (ok && json_count(calls) > 0 && (!json_is_array(calls) || !assistant))
        ok = fail(st, "message %zu: \"tool_calls\" must be an assistant's list", i + 1);
    if (ok && json_count(calls) > 0) json_set(out, "tool_calls", json_copy(calls));
    if (ok) return out;
    json_free(out);
    return NULL;
}

Json *conversation_read(const Json *list, Status *st)
{
    if (!json_is_array(list) || json_count(list) == 0) {
        fail(st, "a list of messages is empty or no list");
        return NULL;
    }
    Json *out = json_new_array();
    for (size_t i = 0; i < json_count(list); i++) {
        Json *m = read_message(json_at(list, i), i, st);
        if (!m) {
            json_free(out);
            return NULL;
        }
        json_append(out, m);
    }
    return out;
}

/* ---- building ---- */

Json *conversation_new(void)
{
    return json_new_array();
}

void conversation_add(Json *messages, const char *role, const char *content)
{
    Json *m = json_new_object();
    json_set(m, "role", json_new_text(role));
    json_set(m, "content", json_new_text(content));
    json_append(messages, m);
}

Json *conversation_of_prompt(const char *prompt)
{
    Json *messages = conversation_new();
    conversation_add(messages, "user", prompt);
    return messages;
}

Json *conversation_part(const Json *messages, size_t from, size_t to)
{
    Json *out = json_new_array();
    for (size_t i = from; i < to; i++) json_append(out, json_copy(json_at(messages, i)));
    return out;
}

static bool has_role(const Json *m, const char *role)
{
    return !strcmp(json_get_string(m, "role", ""), role);
}

bool conversation_ends_with_assistant(const Json *messages)
{
    size_t n = json_count(messages);
    return n > 0 && has_role(json_at(messages, n - 1), "assistant");
}

/* ---- showing ---- */

static void add_calls(Text *out, const Json *calls)
{
    if (json_count(calls) == 0) return;
    char *text = json_write(calls, false);
    text_add(out, text);
    free(text);
}

char *conversation_said(const Json *message)
{
    const char *thought = json_get_string(message, "reasoning_content", NULL);
    Text out = {0};
    if (thought) text_addf(&out, "<think>%s</think>", thought);
    text_add(&out, json_get_string(message, "content", ""));
    add_calls(&out, json_get(message, "tool_calls"));
    return text_take(&out);
}

char *conversation_text(const Json *messages)
{
    size_t n = json_count(messages);
    Text out = {0};
    bool single = n == 1 && has_role(json_at(messages, 0), "user");
    for (size_t i = 0; i < n; i++) {
        char *said = conversation_said(json_at(messages, i));
        if (single) text_add(&out, said);
        else text_addf(&out, "%s%s: %s", i ? "\n" : "", json_get_string(json_at(messages, i), "role", ""), said);
        free(said);
    }
    return text_take(&out);
}
