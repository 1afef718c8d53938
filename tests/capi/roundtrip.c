/* One observation there and its chunk back, and every misuse that can be detected. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pi0rt.h>

#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            char words[512] = "";                                                               \
            pi0rt_last_error(words, sizeof words);                                              \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, words); \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)
#define OK(call) CHECK((call) == PI0RT_STATUS_OK)
#define INVALID(call) CHECK((call) == PI0RT_STATUS_INVALID_ARGUMENT)
#define WRONG_SIZE(call) CHECK((call) == PI0RT_STATUS_STRUCT_SIZE)

static const uint64_t LONG = 60000000000u;

static int last_error_is(const char *expected)
{
    char words[512] = "";
    pi0rt_last_error(words, sizeof words);
    if (strcmp(words, expected) == 0)
        return 1;
    fprintf(stderr, "last error is \"%s\", expected \"%s\"\n", words, expected);
    return 0;
}

static void null_everywhere(void)
{
    pi0rt_client *client = (pi0rt_client *)&client;
    INVALID(pi0rt_client_open(NULL, NULL));
    CHECK(last_error_is("client is NULL"));
    pi0rt_client_close(NULL);
    INVALID(pi0rt_client_describe(NULL, NULL));
    INVALID(pi0rt_client_camera(NULL, NULL, NULL));
    INVALID(pi0rt_client_set_prompt(NULL, NULL, NULL));
    INVALID(pi0rt_client_reset(NULL));
    CHECK(pi0rt_client_fd(NULL) == -1);
    INVALID(pi0rt_observation_acquire(NULL, NULL));
    INVALID(pi0rt_observation_release(NULL, NULL));
    INVALID(pi0rt_submit(NULL, NULL, NULL));
    INVALID(pi0rt_poll(NULL, NULL));
    INVALID(pi0rt_chunk_latest(NULL, NULL));
    INVALID(pi0rt_action_at(NULL, 0, NULL, 0, NULL));
    INVALID(pi0rt_wait(NULL, 0, 0, NULL));
    CHECK(pi0rt_last_error(NULL, 0) == strlen("client is NULL"));
    /* A pointer to something else. */
    uint64_t other[64];
    memset(other, 1, sizeof other);
    INVALID(pi0rt_client_reset((pi0rt_client *)other));
    CHECK(last_error_is("client is not one that pi0rt_client_open made, or is closed"));
}

static void null_arguments(pi0rt_client *client)
{
    uint32_t number;
    float action[5];
    INVALID(pi0rt_client_describe(client, NULL));
    INVALID(pi0rt_client_camera(client, NULL, &number));
    INVALID(pi0rt_client_camera(client, "base", NULL));
    INVALID(pi0rt_client_set_prompt(client, NULL, &number));
    INVALID(pi0rt_client_set_prompt(client, "\xff", &number));
    CHECK(last_error_is("utf8 is not UTF-8"));
    INVALID(pi0rt_observation_acquire(client, NULL));
    INVALID(pi0rt_observation_release(client, NULL));
    INVALID(pi0rt_submit(client, NULL, NULL));
    INVALID(pi0rt_poll(client, NULL));
    INVALID(pi0rt_chunk_latest(client, NULL));
    INVALID(pi0rt_action_at(client, 0, NULL, 5, NULL));
    INVALID(pi0rt_action_at(client, 0, action, 4, NULL));
    CHECK(last_error_is("action has room for 4 values, the policy's actions have 5"));
    INVALID(pi0rt_wait(client, 0, 0, NULL));
}

static void wrong_sizes(pi0rt_client *client, const char *socket_path)
{
    pi0rt_policy_info info = {.struct_size = 4};
    pi0rt_observation observation = {0};
    pi0rt_completion completion = {0};
    pi0rt_chunk chunk = {0};
    pi0rt_action_info about = {0};
    pi0rt_client *second;
    float action[5];
    WRONG_SIZE(pi0rt_client_describe(client, &info));
    WRONG_SIZE(pi0rt_observation_acquire(client, &observation));
    CHECK(last_error_is("observation.struct_size is 0, expected at least 176"));
    WRONG_SIZE(pi0rt_submit(client, &observation, NULL));
    WRONG_SIZE(pi0rt_poll(client, &completion));
    WRONG_SIZE(pi0rt_chunk_latest(client, &chunk));
    WRONG_SIZE(pi0rt_action_at(client, 0, action, 5, &about));
    WRONG_SIZE(pi0rt_wait(client, 0, 0, &completion));
    /* A later version's options: fine as long as they ask for nothing unknown. */
    struct {
        pi0rt_client_options options;
        uint64_t later;
    } longer = {{.struct_size = sizeof longer, .socket_path = socket_path}, 0};
    OK(pi0rt_client_open(&longer.options, &second));
    pi0rt_client_close(second);
    longer.later = 1;
    WRONG_SIZE(pi0rt_client_open(&longer.options, &second));
    CHECK(second == NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    CHECK(pi0rt_version() == PI0RT_ABI_VERSION);
    CHECK(strcmp(pi0rt_status_string(PI0RT_STATUS_OK), "success") == 0);
    CHECK(strcmp(pi0rt_status_string(12345), "unknown status") == 0);
    null_everywhere();

    pi0rt_client_options options = {.struct_size = sizeof options, .socket_path = "/nonexistent/pi0rt.sock"};
    pi0rt_client *client;
    CHECK(pi0rt_client_open(&options, &client) == PI0RT_STATUS_NO_DAEMON);
    CHECK(client == NULL);
    options.socket_path = argv[1];
    options.gone_after_ns = 20000000000u;
    options.interpolation = 9;
    INVALID(pi0rt_client_open(&options, &client));
    CHECK(last_error_is("options.interpolation is 9, expected a pi0rt_interpolation"));
    options.interpolation = PI0RT_INTERPOLATION_LINEAR;
    OK(pi0rt_client_open(&options, &client));
    null_arguments(client);
    wrong_sizes(client, argv[1]);

    pi0rt_policy_info info = {.struct_size = sizeof info};
    OK(pi0rt_client_describe(client, &info));
    CHECK(strcmp(info.model, "sums") == 0 && strcmp(info.camera_names[1], "wrist") == 0);
    CHECK(info.cameras == 2 && info.state_dim == 3 && info.action_dim == 5 && info.horizon == 20);
    uint32_t wrist, prompt_id;
    OK(pi0rt_client_camera(client, "wrist", &wrist));
    CHECK(wrist == 1);
    INVALID(pi0rt_client_camera(client, "front", &wrist));
    CHECK(last_error_is("no camera is called \"front\""));
    OK(pi0rt_client_set_prompt(client, "stack the cups", &prompt_id));
    CHECK(pi0rt_client_set_prompt(client, "", NULL) == PI0RT_STATUS_BAD_PROMPT);

    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[5];
    CHECK(pi0rt_poll(client, &completion) == PI0RT_STATUS_EMPTY);
    CHECK(pi0rt_chunk_latest(client, &chunk) == PI0RT_STATUS_EMPTY);
    CHECK(pi0rt_action_at(client, pi0rt_now_ns(), action, 5, &about) == PI0RT_STATUS_EMPTY);
    CHECK(pi0rt_wait(client, 0, 1000000, &completion) == PI0RT_STATUS_TIMEOUT);

    pi0rt_observation observation = {.struct_size = sizeof observation, .prompt_id = prompt_id};
    INVALID(pi0rt_submit(client, &observation, NULL));
    for (uint64_t round = 1; round <= 100; round++) {
        uint64_t ticket;
        OK(pi0rt_observation_acquire(client, &observation));
        CHECK(observation.cameras == 2 && observation.state_dim == 3);
        CHECK(observation.frames[0].capacity >= 640 * 480 * 3 && observation.frames[2].data == NULL);
        CHECK((uintptr_t)observation.frames[wrist].data % 4096 == 0);
        for (int i = 0; i < 3; i++)
            observation.state[i] = (float)round * 0.5f + (float)i;
        pi0rt_frame *frame = &observation.frames[wrist];
        frame->width = 6, frame->height = 2, frame->format = PI0RT_FORMAT_BGR8;
        memset(frame->data, 64, 36);
        observation.observed_ns = pi0rt_now_ns();
        OK(pi0rt_submit(client, &observation, &ticket));
        CHECK(ticket == round);
        OK(pi0rt_wait(client, ticket, LONG, &completion));
        CHECK(completion.ticket == ticket && completion.status == PI0RT_STATUS_OK && completion.chunk == round);
        CHECK(completion.observed_ns == observation.observed_ns);
        OK(pi0rt_chunk_latest(client, &chunk));
        CHECK(chunk.chunk == round && chunk.horizon == 20 && chunk.action_dim == 5);
        for (uint32_t i = 0; i < 100; i++)
            CHECK(chunk.actions[i] == (float)(i / 5) + observation.state[i % 5 % 3] + 0.25f);
        /* A quarter of the way from row 2 to row 3. */
        OK(pi0rt_action_at(client, observation.observed_ns + 45000000, action, 5, &about));
        CHECK(about.reason == PI0RT_REASON_IN_CHUNK && about.chunk == round && about.age_ns == 45000000);
        CHECK(fabs(about.row - 2.25) < 1e-6 && fabsf(action[4] - (chunk.actions[14] + 0.25f)) < 1e-5f);
    }
    CHECK(pi0rt_submit(client, &observation, NULL) == PI0RT_STATUS_INVALID_ARGUMENT);

    /* All slots in use, one given back. */
    pi0rt_observation all[16];
    uint32_t taken = 0;
    for (;; taken++) {
        CHECK(taken < 16);
        all[taken] = (pi0rt_observation){.struct_size = sizeof all[0]};
        if (pi0rt_observation_acquire(client, &all[taken]) != PI0RT_STATUS_OK)
            break;
    }
    CHECK(taken == info.slots);
    CHECK(pi0rt_observation_acquire(client, &all[taken]) == PI0RT_STATUS_BUSY);
    OK(pi0rt_observation_release(client, &all[0]));
    OK(pi0rt_observation_acquire(client, &all[0]));
    all[0].frames[0].width = 100000, all[0].frames[0].height = 100000;
    all[0].frames[0].format = PI0RT_FORMAT_RGB8;
    INVALID(pi0rt_submit(client, &all[0], NULL));
    all[0].frames[0].format = 77;
    INVALID(pi0rt_submit(client, &all[0], NULL));
    OK(pi0rt_client_reset(client));
    CHECK(pi0rt_chunk_latest(client, &chunk) == PI0RT_STATUS_EMPTY);
    pi0rt_client_close(client);
    puts("roundtrip: done");
    return 0;
}
