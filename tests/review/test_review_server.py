"""The addresses of a review."""

from http.client import HTTPConnection
from pathlib import Path

from reviewed import Client, make_labels, served_review


def test_the_link_without_its_last_slash_leads_to_the_page(tmp_path: Path) -> None:
    with served_review(make_labels(tmp_path)[1]) as server:
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request("GET", f"/{server.token}")
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.headers["Location"]) == (308, f"/{server.token}/")
        connection.request("GET", answer.headers["Location"])  # the connection goes on
        assert connection.getresponse().status == 200
        connection.close()
        assert Client(server, "1", "Ada").send("GET", f"/{server.token[:-1]}")[0] == 403
