"""Downloads one file: resumed where it was cut, and checked by its sha256."""

import errno
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from policies.loading.yaml_files import ConfigError

Report = Callable[[str], None]
"""Shows the user a line about the progress."""

REPORT_INTERVAL_S = 5.0
"""Minimum seconds between two lines about a download."""


class FetchFailed(ConfigError):
    """Weights could not be fetched: no network, no space, no access, or a wrong checksum."""


class NotFetched(ConfigError):
    """Weights are not on this machine, and could be fetched."""


class RemoteFile(NamedTuple):
    """A file to download."""

    url: str
    title: str
    """How the user is told of it."""
    sha256: str
    size: int | None = None
    headers: Mapping[str, str] | None = None


def download_file(file: RemoteFile, target: Path, report: Report) -> None:
    """Download a file to `target` unless it is there.

    What has arrived stays in `{target}.incomplete` if the download is cut or killed, and the next call asks for the
    rest only. `huggingface_hub` itself begins again: https://github.com/huggingface/huggingface_hub/pull/4228. Raises
    FetchFailed for a wrong checksum, and what `huggingface_hub` raises, which `explain_failures` explains.
    """
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_file():
            return
        partial = target.with_name(f"{target.name}.incomplete")
        _append_rest(file, partial, report)
        if (digest := compute_sha256(partial)) != file.sha256:
            partial.unlink()
            raise FetchFailed(
                f"{file.title}: the checksum is wrong, and what arrived was deleted: sha256 {digest}, expected"
                f" {file.sha256}; fetch it again, and if that repeats, the file or the checksum is not its publisher's"
            )
        partial.replace(target)


def count_missing_bytes(size: int, target: Path) -> int:
    """Return how many of a file's bytes are still to be downloaded."""
    if target.is_file():
        return 0
    partial = target.with_name(f"{target.name}.incomplete")
    return max(size - partial.stat().st_size, 0) if partial.is_file() else size


def compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _append_rest(file: RemoteFile, partial: Path, report: Report) -> None:
    """Bring the partial file to its full size. A network that fails is tried five more times, each from where it
    failed."""
    from huggingface_hub.file_download import http_get

    there = partial.stat().st_size if partial.is_file() else 0
    if file.size is None or there > file.size:
        partial.unlink(missing_ok=True)
        there = 0
    if there:
        report(f"{file.title}: {format_bytes(there)} are here; fetching the rest")
    with partial.open("ab") as output:
        http_get(
            file.url,
            output,
            resume_size=there,
            headers=dict(file.headers or {}),
            expected_size=file.size,
            displayed_filename=file.title,
            tqdm_class=build_progress(file.title, report),
        )


def build_progress(title: str, report: Report) -> Any:
    """Return a class like `tqdm` that reports how far a download is, now and then, also where there is no terminal."""

    class Progress:
        def __init__(self, *, total: float | None = None, initial: float = 0, **_: Any) -> None:
            self._total, self._done, self._initial = total, initial, initial
            self._began = self._reported = time.monotonic()

        def __enter__(self) -> "Progress":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: float | None = 1) -> None:
            self._done += count or 0
            now = time.monotonic()
            if now - self._reported >= REPORT_INTERVAL_S:
                self._reported = now
                report(f"{title}: {self._describe(now - self._began)}")

        def _describe(self, seconds: float) -> str:
            rate = max(self._done - self._initial, 1.0) / seconds
            if not self._total:
                return f"{format_bytes(self._done)}, {format_bytes(rate)}/s"
            left_s = max(self._total - self._done, 0.0) / rate
            return (
                f"{self._done / self._total:.0%} of {format_bytes(self._total)}, {format_bytes(rate)}/s,"
                f" {format_duration(left_s)} left"
            )

    return Progress


def format_bytes(count: float) -> str:
    """Return a size as `98 MB` or `4.7 GB`, in powers of ten as disks and hubs give them."""
    return (
        f"{count / 1e9:.1f} GB"
        if count >= 1e9
        else f"{count / 1e6:.0f} MB"
        if count >= 1e6
        else f"{count:.0f} B"
    )


def format_duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@contextmanager
def explain_failures(what: str, where: str, page: str, mirror: str = "") -> Iterator[None]:
    """Turn what `huggingface_hub` raises into a FetchFailed of one sentence.

    `what` is the reference, `where` the server, `page` the address at which a browser shows the model, and `mirror` a
    hint at other servers."""
    from huggingface_hub import errors

    try:
        yield
    except ConfigError:
        raise
    except errors.GatedRepoError as error:
        raise FetchFailed(
            f"{what} is gated: accept its terms at {page}, and set HF_TOKEN to a token of your account that may read it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FetchFailed(
            f"{where} has no {what}, or does not show it to you: check the name; a private one needs HF_TOKEN"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise FetchFailed(
            f"{what} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it: unset it once, and run: smallfirst"
            f" models pull {what}"
        ) from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError, errors.HfHubHTTPError) as error:
        raise FetchFailed(_explain_answer(what, where, error)) from error
    except errors.HTTPError as error:  # httpx's or httpx2's, by the library's version
        raise FetchFailed(
            f"{where} can't be reached for {what} ({type(error).__name__}): check the network or the proxy, and try"
            f" again: it goes on where it was cut{mirror}"
        ) from error
    except OSError as error:
        raise FetchFailed(explain_disk(what, error)) from error
    except ValueError as error:  # no JSON, a name that no hub has, a file too large for HTTP
        reason = str(error).strip().split("\n")[0]
        raise FetchFailed(f"{where} and {what} do not go together: {reason}") from error


def _explain_answer(what: str, where: str, error: Exception) -> str:
    """Explain an error that the server answered with. Its own words are left out: they may be a page long."""
    response = getattr(error, "response", None)
    if response is None:  # LocalEntryNotFoundError: the network failed between two files
        return f"{where} can't be reached for all of {what}: check the network and try again"
    status = response.status_code
    if status == 401:
        return f"{where} refuses HF_TOKEN (status 401): set a token that is valid, or none"
    if status == 404:
        return f"{where} has no such file or revision of {what} (status 404): check the reference"
    advice = (
        "try again later" if status in (408, 429) or status >= 500 else "check the reference and HF_TOKEN"
    )
    return f"{where} answered {what} with status {status}: {advice}"


def explain_disk(what: str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{what}: the disk is full; free some space, or set HF_HOME or models_folder to another disk, and try"
            " again: what has arrived is kept"
        )
    reason = error.strerror or str(error).split("\n")[0]
    return f"{what}: {reason}" + (f": {error.filename}" if error.filename else "; try again")
