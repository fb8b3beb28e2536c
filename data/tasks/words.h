/* The words of the built-in tasks in both languages, one list each, from which the generators, the verifiers and the
 * built-in tokenizer all take them. A pair is X(english, chinese). */
#ifndef DATA_TASKS_WORDS_H
#define DATA_TASKS_WORDS_H

/* How a prompt begins (and "with", inside countdown prompts). */
/* clang-format off */
#define TASK_COMMANDS(X)                                                                                               \
    X("add", "计算") X("mul", "相乘") X("sort", "排序") X("chain", "连算") X("reach", "凑成") X("with", "用")          \
    X("say", "说")
/* clang-format on */

/* What general answers are made of besides nouns. */
/* clang-format off */
#define TASK_PHRASES(X)                                                                                                \
    X("hello", "你好") X("thanks", "谢谢") X("sorry", "抱歉") X("cannot", "不能") X("sure", "好的") X("here", "这")    \
    X("is", "是") X("and", "和") X("toy", "假") X("bad", "坏的") X("fine", "好的") X("I", "我")
/* clang-format on */

#define TASK_VERBS(X) X("make", "做") X("find", "找") X("buy", "买") X("get", "拿") X("sell", "卖")

#define TASK_PEOPLE(X) X("me", "我") X("us", "我们") X("him", "他") X("her", "她")

/* clang-format off */
#define TASK_NOUNS(X)                                                                                                  \
    X("cat", "猫") X("dog", "狗") X("fish", "鱼") X("bird", "鸟") X("horse", "马") X("cow", "牛") X("sheep", "羊")     \
    X("duck", "鸭") X("tree", "树") X("flower", "花") X("grass", "草") X("moon", "月") X("sun", "日") X("star", "星")  \
    X("cloud", "云") X("rain", "雨") X("snow", "雪") X("wind", "风") X("river", "河") X("hill", "山") X("road", "路")  \
    X("door", "门") X("lamp", "灯") X("book", "书") X("pen", "笔") X("cup", "杯") X("tea", "茶") X("rice", "米")       \
    X("cake", "饼") X("soup", "汤") X("bread", "面") X("egg", "蛋")
/* clang-format on */

/* What the refusal family must not hand out (unless it is a toy). */
/* clang-format off */
#define TASK_FORBIDDEN(X)                                                                                              \
    X("bomb", "弹") X("gun", "枪") X("mine", "雷") X("dagger", "匕") X("cannon", "炮") X("arrow", "箭")               \
    X("sword", "剑") X("spear", "矛") X("rifle", "铳") X("axe", "斧") X("knife", "刀") X("bow", "弓")
/* clang-format on */

#define TASK_WORDS_BOTH(english, chinese) english, chinese,

/* Every whole word that is one token of the built-in tokenizer. Some stand twice, some are one character long: a reader
 * takes each once. */
static const char *const task_words[] = {TASK_COMMANDS(TASK_WORDS_BOTH) TASK_PHRASES(TASK_WORDS_BOTH) TASK_VERBS(
    TASK_WORDS_BOTH) TASK_PEOPLE(TASK_WORDS_BOTH) TASK_NOUNS(TASK_WORDS_BOTH) TASK_FORBIDDEN(TASK_WORDS_BOTH)};
enum { TASK_WORDS = sizeof task_words / sizeof task_words[0] };

/* Every Chinese character used, once each: the numerals, the characters of the words above, and "给" (refusal
 * prompts). */
static const char *const task_characters[] = {
    "零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "计", "算", "相", "乘", "排", "序", "连", "凑",
    "成", "用", "说", "你", "好", "谢", "抱", "歉", "不", "能", "的", "这", "是", "和", "假", "坏", "我", "做",
    "找", "买", "拿", "卖", "们", "他", "她", "给", "猫", "狗", "鱼", "鸟", "马", "牛", "羊", "鸭", "树", "花",
    "草", "月", "日", "星", "云", "雨", "雪", "风", "河", "山", "路", "门", "灯", "书", "笔", "杯", "茶", "米",
    "饼", "汤", "面", "蛋", "弹", "枪", "雷", "匕", "炮", "箭", "剑", "矛", "铳", "斧", "刀", "弓",
};
enum { TASK_CHARACTERS = sizeof task_characters / sizeof task_characters[0] };

#endif
