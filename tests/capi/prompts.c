/* Instructions: their numbers, and whether they were truncated.

   prompts SOCKET   (a daemon of the tests' engine) */
#include <stdint.h>

#include "check.h"

static void is(pi0rt_client *client, uint32_t asked, uint32_t prompt_id, uint32_t truncated)
{
    pi0rt_prompt prompt = {.struct_size = sizeof prompt, .truncated = 7, .reserved = 7};
    IS(OK, pi0rt_client_prompt(client, asked, &prompt));
    CHECK(prompt.struct_size == sizeof prompt && prompt.reserved == 0);
    CHECK(prompt.prompt_id == prompt_id && prompt.truncated == truncated);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    pi0rt_prompt prompt = {.struct_size = sizeof prompt};
    IS(INVALID_ARGUMENT, pi0rt_client_prompt(NULL, 0, &prompt));
    pi0rt_client *client = open_client(argv[1]);
    IS(INVALID_ARGUMENT, pi0rt_client_prompt(client, 0, &prompt));
    CHECK(last_error_is("no instruction was set"));
    uint32_t whole, cut, again;
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", &whole));
    is(client, whole, whole, 0);
    IS(OK, pi0rt_client_set_prompt(client, "cut the rope", &cut));
    is(client, cut, cut, 1);
    is(client, 0, cut, 1);
    is(client, whole, whole, 0);
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    is(client, 0, whole, 0);
    /* The daemon already knows it. */
    IS(OK, pi0rt_client_set_prompt(client, "cut the rope", &again));
    CHECK(again == cut);
    is(client, 0, cut, 1);
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    /* The client's next session remembers everything, including which one was set last. */
    IS(OK, pi0rt_client_reconnect(client));
    is(client, whole, whole, 0);
    is(client, cut, cut, 1);
    is(client, 0, whole, 0);

    IS(BAD_PROMPT, pi0rt_client_set_prompt(client, "", NULL));
    is(client, 0, whole, 0);
    IS(INVALID_ARGUMENT, pi0rt_client_prompt(client, 3, &prompt));
    CHECK(last_error_is("no instruction has the number 3"));
    IS(INVALID_ARGUMENT, pi0rt_client_prompt(client, cut, NULL));
    prompt.struct_size = 15;
    IS(STRUCT_SIZE, pi0rt_client_prompt(client, cut, &prompt));
    IS(OK, pi0rt_client_close(client));
    prompt.struct_size = sizeof prompt;
    IS(CLOSED, pi0rt_client_prompt(client, cut, &prompt));
    puts("prompts: done");
    return 0;
}
