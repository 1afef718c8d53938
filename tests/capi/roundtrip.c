/* A hundred round trips of observation and chunk, with every value checked. */
#include <math.h>
#include <stdint.h>

#include "check.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    CHECK(pi0rt_version() == PI0RT_ABI_VERSION);
    CHECK(strcmp(pi0rt_status_string(PI0RT_STATUS_OK), "success") == 0);
    CHECK(strcmp(pi0rt_status_string(12345), "unknown status") == 0);

    pi0rt_client_options options = options_for(argv[1]);
    options.interpolation = PI0RT_INTERPOLATION_LINEAR;
    pi0rt_client *client;
    IS(OK, pi0rt_client_open(&options, &client));

    pi0rt_policy_info info = {.struct_size = sizeof info};
    IS(OK, pi0rt_client_describe(client, &info));
    CHECK(strcmp(info.model, "sums") == 0 && strcmp(info.camera_names[1], "wrist") == 0);
    CHECK(info.cameras == 2 && info.state_dim == 3 && info.action_dim == 5 && info.horizon == 20);
    uint32_t wrist, prompt_id;
    IS(OK, pi0rt_client_camera(client, "wrist", &wrist));
    CHECK(wrist == 1);
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", &prompt_id));

    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[5];
    IS(EMPTY, pi0rt_poll(client, &completion));
    IS(EMPTY, pi0rt_chunk_latest(client, &chunk));
    IS(EMPTY, pi0rt_action_at(client, pi0rt_now_ns(), action, 5, &about));
    IS(TIMEOUT, pi0rt_wait(client, 0, 1000000, &completion));

    pi0rt_observation observation = {.struct_size = sizeof observation, .prompt_id = prompt_id};
    for (uint64_t round = 1; round <= 100; round++) {
        uint64_t ticket;
        IS(OK, pi0rt_observation_acquire(client, &observation));
        CHECK(observation.cameras == 2 && observation.state_dim == 3);
        CHECK(observation.frames[0].capacity >= 640 * 480 * 3 && observation.frames[2].data == NULL);
        CHECK((uintptr_t)observation.frames[wrist].data % 4096 == 0);
        for (int i = 0; i < 3; i++)
            observation.state[i] = (float)round * 0.5f + (float)i;
        pi0rt_frame *frame = &observation.frames[wrist];
        frame->width = 6, frame->height = 2, frame->format = PI0RT_FORMAT_BGR8;
        memset(frame->data, 64, 36);
        observation.observed_ns = pi0rt_now_ns();
        IS(OK, pi0rt_submit(client, &observation, &ticket));
        CHECK(ticket == round);
        IS(OK, pi0rt_wait(client, ticket, LONG_NS, &completion));
        CHECK(completion.ticket == ticket && completion.status == PI0RT_STATUS_OK && completion.chunk == round);
        CHECK(completion.observed_ns == observation.observed_ns);
        IS(OK, pi0rt_chunk_latest(client, &chunk));
        CHECK(chunk.chunk == round && chunk.horizon == 20 && chunk.action_dim == 5);
        for (uint32_t i = 0; i < 100; i++)
            CHECK(chunk.actions[i] == (float)(i / 5) + observation.state[i % 5 % 3] + 0.25f);
        /* A quarter of the way from row 2 to row 3. */
        IS(OK, pi0rt_action_at(client, observation.observed_ns + 45000000, action, 5, &about));
        CHECK(about.reason == PI0RT_REASON_IN_CHUNK && about.chunk == round && about.age_ns == 45000000);
        CHECK(fabs(about.row - 2.25) < 1e-6 && fabsf(action[4] - (chunk.actions[14] + 0.25f)) < 1e-5f);
    }
    IS(OK, pi0rt_client_reset(client));
    IS(EMPTY, pi0rt_chunk_latest(client, &chunk));
    IS(OK, pi0rt_client_close(client));
    puts("roundtrip: done");
    return 0;
}
