/* The turns of a refinement. */
#include "recipes/model/eval_refine.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"

const char *feedback_name(int k)
{
    static const char *const names[] = {"none", "verdict"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

char *refine_request(const Problem *p, Feedback feedback, Verdict v)
{
    bool chinese = p->language == LANGUAGE_ZH;
    Text text = {0};
    if (feedback == FEEDBACK_VERDICT && v.score < 1)
        text_addf(&text, chinese ? "不是:%s " : "That is not right: %s. ", reason_name(v.reason));
    else if (feedback == FEEDBACK_VERDICT) text_add(&text, chinese ? "是的 " : "That is right. ");
    text_add(&text, chinese ? "算" : "Check it and answer again.");
    return text_take(&text);
}

bool refine_encode(const Voice *v, const JudgedText *said, Feedback feedback, Ids *out, Status *st)
{
    const Problem *p = said->problem;
    Json *messages = problem_messages(p);
    char *request = refine_request(p, feedback, said->verdict);
    conversation_add(messages, "assistant", completion_content(v, said->completion));
    conversation_add(messages, "user", request);
    bool ok = prompt_encode(v, messages, p->tools, out, st) || fail_prefix(st, "--refine of %s", p->task->name);
    free(request);
    json_free(messages);
    return ok;
}
