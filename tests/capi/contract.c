/* The description of a state's and an action's values, and the control rate.

   contract SOCKET RATE SOURCE   (a daemon of the tests' engine, and what it declares) */
#include <math.h>
#include <stdint.h>

#include "check.h"

static void submit(pi0rt_client *client)
{
    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    uint64_t ticket;
    IS(OK, pi0rt_observation_acquire(client, &observation));
    for (size_t i = 0; i < observation.state_dim; i++)
        observation.state[i] = 0;
    IS(OK, pi0rt_submit(client, &observation, &ticket));
    IS(OK, pi0rt_wait(client, ticket, LONG_NS, &completion));
    CHECK(completion.status == PI0RT_STATUS_OK && completion.reason == PI0RT_COMPLETION_REASON_NONE);
    CHECK(completion.index == -1);
}

static void dimensions(pi0rt_client *client)
{
    pi0rt_dimension dimension = {.struct_size = sizeof dimension};
    IS(OK, pi0rt_client_dimension(client, PI0RT_VECTOR_STATE, 2, &dimension));
    CHECK(strcmp(dimension.name, "left_gripper") == 0 && strcmp(dimension.unit, "m") == 0);
    CHECK(dimension.quantity == PI0RT_QUANTITY_POSITION && dimension.gripper == 1);
    CHECK(dimension.position_min == 0 && dimension.position_max == 0.08f);
    CHECK(isinf(dimension.velocity_max) && isinf(dimension.acceleration_max));
    IS(OK, pi0rt_client_dimension(client, PI0RT_VECTOR_ACTION, 0, &dimension));
    CHECK(strcmp(dimension.name, "waist") == 0 && strcmp(dimension.unit, "rad/s") == 0);
    CHECK(dimension.quantity == PI0RT_QUANTITY_VELOCITY && dimension.gripper == 0);
    CHECK(dimension.position_min == -INFINITY && dimension.position_max == INFINITY);
    CHECK(dimension.velocity_max == 1.5f && dimension.acceleration_max == 20);
    /* No declaration for it. */
    IS(OK, pi0rt_client_dimension(client, PI0RT_VECTOR_ACTION, 4, &dimension));
    CHECK(dimension.quantity == PI0RT_QUANTITY_UNKNOWN && dimension.name[0] == '\0' && dimension.unit[0] == '\0');

    IS(INVALID_ARGUMENT, pi0rt_client_dimension(client, PI0RT_VECTOR_STATE, 3, &dimension));
    CHECK(last_error_is("index is 3, there are 3 values"));
    IS(OK, pi0rt_client_dimension(client, PI0RT_VECTOR_STATE, 0, &dimension));
    IS(INVALID_ARGUMENT, pi0rt_client_dimension(client, 2, 0, &dimension));
    CHECK(last_error_is("which is 2, expected a pi0rt_vector"));
    IS(INVALID_ARGUMENT, pi0rt_client_dimension(client, PI0RT_VECTOR_STATE, 0, NULL));
    dimension.struct_size = 111;
    IS(STRUCT_SIZE, pi0rt_client_dimension(client, PI0RT_VECTOR_STATE, 0, &dimension));
}

static void rate(pi0rt_client_options *options, float hz, pi0rt_rate_source source)
{
    pi0rt_client *client;
    pi0rt_policy_info info = {.struct_size = sizeof info};
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[5] = {7, 7, 7, 7, 7};
    IS(OK, pi0rt_client_open(options, &client));
    IS(OK, pi0rt_client_describe(client, &info));
    CHECK(info.rate_hz == hz && info.rate_source == source);
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    for (int i = 0; i < 2; i++) {
        if (hz == 0) {
            /* Before the first chunk and after it. */
            IS(NO_RATE, pi0rt_action_at(client, pi0rt_now_ns(), action, 5, &about));
            CHECK(about.chunk == 0 && action[0] == 7);
            CHECK(last_error_is("no control rate: set options.control_rate_hz, or policy.control_rate_hz in the "
                                "daemon's configuration"));
        }
        if (i == 0)
            submit(client);
    }
    IS(OK, pi0rt_chunk_latest(client, &chunk));
    if (hz > 0) {
        IS(OK, pi0rt_action_at(client, chunk.observed_ns + 300000000, action, 5, &about));
        CHECK(fabs(about.row - 0.3 * (double)hz) < 1e-6);
    }
    IS(OK, pi0rt_client_close(client));
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    float hz = (float)atof(argv[2]);
    pi0rt_client_options options = options_for(argv[1]);
    rate(&options, hz, (pi0rt_rate_source)atoi(argv[3]));
    options.control_rate_hz = 15;
    rate(&options, 15, PI0RT_RATE_SOURCE_SESSION);

    pi0rt_client *client;
    IS(OK, pi0rt_client_open(&options, &client));
    pi0rt_policy_info info = {.struct_size = sizeof info};
    IS(OK, pi0rt_client_describe(client, &info));
    CHECK(info.control_rate_hz == hz && info.execution_horizon == 8 && info.optional_cameras == 3);
    dimensions(client);
    /* Found by the robot's name or by the model's. */
    uint32_t camera;
    IS(OK, pi0rt_client_camera(client, "wrist", &camera));
    CHECK(camera == 1);
    IS(OK, pi0rt_client_camera(client, "right_wrist_0_rgb", &camera));
    CHECK(camera == 1);
    IS(OK, pi0rt_client_camera(client, "base", &camera));
    CHECK(camera == 0);
    IS(OK, pi0rt_client_close(client));
    puts("contract: done");
    return 0;
}
