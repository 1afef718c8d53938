/* Checks of the test programs, which report an unexpected result. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pi0rt.h>

#define CHECK(condition)                                                                            \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            char words[512] = "";                                                                   \
            pi0rt_last_error(words, sizeof words);                                                  \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, words); \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)
#define IS(status, call) check_status(call, PI0RT_STATUS_##status, #status, #call, __FILE__, __LINE__)

static inline void check_status(int got, int expected, const char *name, const char *call, const char *file, int line)
{
    char words[512] = "";
    if (got == expected)
        return;
    pi0rt_last_error(words, sizeof words);
    fprintf(stderr, "%s:%d: %s is %d (%s), expected %s (last error: %s)\n", file, line, call, got,
            pi0rt_status_string(got), name, words);
    exit(1);
}

static inline int last_error_is(const char *expected)
{
    char words[512] = "";
    pi0rt_last_error(words, sizeof words);
    if (strcmp(words, expected) == 0)
        return 1;
    fprintf(stderr, "last error is \"%s\", expected \"%s\"\n", words, expected);
    return 0;
}

/* Longest wait for anything: not a measurement, only a limit. */
#define LONG_NS 60000000000u

/* Options with a long timeout: on a busy machine the session must not count as lost. */
static inline pi0rt_client_options options_for(const char *socket_path)
{
    pi0rt_client_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.socket_path = socket_path;
    options.gone_after_ns = 20000000000u;
    return options;
}

static inline pi0rt_client *open_client(const char *socket_path)
{
    pi0rt_client_options options = options_for(socket_path);
    pi0rt_client *client = NULL;
    IS(OK, pi0rt_client_open(&options, &client));
    return client;
}

#endif
