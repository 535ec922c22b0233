"""LitServe: an API whose predict sleeps."""

import litserve
from _work import MAX_BATCH, PORT, WINDOW_S, WORKERS, work


class Sleeps(litserve.LitAPI):
    """Holds its process for a batch."""

    def setup(self, device):
        """Nothing to load."""

    def decode_request(self, request):
        """The number asked for."""
        return request["x"]

    def batch(self, inputs):
        """A list."""
        return list(inputs)

    def predict(self, x):
        """A batch."""
        work(len(x))
        return x

    def unbatch(self, output):
        """A list."""
        return output

    def encode_response(self, output):
        """As it came."""
        return {"y": output}


if __name__ == "__main__":
    api = Sleeps(max_batch_size=MAX_BATCH, batch_timeout=WINDOW_S, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=False)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False, num_api_servers=1)
