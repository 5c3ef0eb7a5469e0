"""The live page behind the proxy of deploy/: Caddy before `mm serve --behind-proxy`, as compose.yaml starts them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests
from playwright.sync_api import Browser, expect

from mm_dagster_tests.api.served import AS_OF, home
from mm_dagster_tests.cli.test_home import free_port
from mm_dagster_tests.cli.test_up import wait_until
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.pages.real import Real, end, served
from mm_dagster_tests.pages.test_live_browser import watched

pytestmark = pytest.mark.long

HERE_ONLY = """{
	admin off
	local_certs
	skip_install_trust
	auto_https disable_redirects
}
"""
"""What a test asks of Caddy beside deploy/Caddyfile: a certificate of its own making that this computer never trusts,
and no port but the one that is named."""


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Real, Real]]:
    """The service as the proxy reaches it, and as browsers do."""
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("caddy is not here; Debian's package has it")
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    home(folder)
    (folder / "configuration" / "alerts.yaml").write_text(f"link: https://localhost:{port}\n")
    (folder / "Caddyfile").write_text(f"{HERE_ONLY}\nimport {PROJECT / 'deploy' / 'Caddyfile'}\n")
    now = AS_OF.replace(minute=47)
    with served(folder / "configuration", folder / "data", folder / "user", "--behind-proxy", now=now) as real:
        own = real.own | {"MM_DOMAIN": f"localhost:{port}", "UPSTREAM": real.url.removeprefix("http://")}
        command = [caddy, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
        with (folder / "caddy").open("w") as said:
            proxy = subprocess.Popen(command, env=own, stdout=said, stderr=said, text=True)
            try:
                wait_until(lambda: proxy.poll() is not None or is_open(port))
                assert proxy.poll() is None, (folder / "caddy").read_text()
                yield real, replace(real, url=f"https://localhost:{port}")
            finally:
                end(proxy)


def is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_the_page_lives_behind_it(direct: tuple[Real, Real], browser: Browser) -> None:
    _, real = direct
    with real.entered(browser, ignore_https_errors=True) as context:
        (cookie,) = context.cookies()
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        page = context.new_page()
        asked, complaints = watched(page)
        with page.expect_response(lambda answer: answer.url.endswith("/stream") and answer.status == 200):
            page.goto(f"{real.url}/g/eth")
        assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        # What happens is said at once: nothing holds the stream back until it has gathered enough.
        page.evaluate("window.isTheSame = true")
        real.mm("respond", "eth", "reduced", "--note", "through the proxy")
        expect(page.get_by_text("through the proxy").first).to_be_attached()
        assert page.evaluate("window.isTheSame")
        # And a button's origin is that of the proxy.
        page.get_by_role("button", name="I reduced it").click()
        expect(page.locator("output")).to_contain_text("Noted: reduced.")
        assert [one.url for one in asked if not one.url.startswith(real.url)] == []
        assert complaints == []


def test_more_tabs_than_six_load_over_http_2(direct: tuple[Real, Real], browser: Browser) -> None:
    _, real = direct
    with real.entered(browser, ignore_https_errors=True) as context:
        page = context.new_page()
        page.goto(real.url)
        # Streams of its own, as a browser without locks would have them: nine are more than HTTP/1.1 lets open.
        opened = page.evaluate(
            """() => Promise.all([...Array(9)].map(() => new Promise((done, failed) => {
              const one = new EventSource('/stream'); one.onopen = () => done(true); one.onerror = failed; })))"""
        )
        assert opened == [True] * 9


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_foreign_host_gets_nothing_through_it_or_past_it(direct: tuple[Real, Real]) -> None:
    behind, real = direct
    through = requests.get(f"{real.url}/enter", headers={"Host": "evil.example"}, verify=False, timeout=20)
    past = requests.get(f"{behind.url}/enter", headers={"Host": "evil.example"}, timeout=20)
    for answer in (through, past):
        assert "Who is there?" not in answer.text
    assert past.status_code >= 400
    assert "Who is there?" in requests.get(f"{real.url}/enter", verify=False, timeout=20).text


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_who_guesses_codes_is_slowed_down_by_their_own_address(direct: tuple[Real, Real]) -> None:
    behind, real = direct

    def guess(url: str, address: str) -> int:
        heads = {"Origin": real.url, "X-Forwarded-For": address}
        answer = requests.post(f"{url}/enter", json={"code": "WRONG"}, headers=heads, verify=False, timeout=20)
        return answer.status_code

    # The proxy alone says who asks, and what the asker says of themselves it does not pass on.
    said = [guess(real.url, f"192.0.2.{number}") for number in range(12)]
    assert said[0] == 403
    assert said[-1] == 429
    assert guess(behind.url, "198.51.100.7") == 403
