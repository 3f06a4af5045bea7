{{/* `python -c <this> module`: what runs a service while `skaffold dev` changes it. */}}
{{- define "lakegate.restarter" -}}
import signal, subprocess, sys

END = {signal.SIGTERM, signal.SIGINT}
WANTED = {signal.SIGHUP, signal.SIGCHLD, *END}
# blocked, and taken one after the other: none gets lost between a look and a wait, nor ignored since this is process 1
signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)


def start():
    unblock = lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, WANTED)
    return subprocess.Popen([sys.executable, "-m", *sys.argv[1:]], preexec_fn=unblock)


def end(child):
    child.terminate()
    return child.wait()


child = start()
while True:
    got = signal.sigwait(WANTED)
    if got in END:
        sys.exit(end(child))
    if got == signal.SIGHUP:
        end(child)
    elif child.poll() is None:
        continue  # it tells of the one before
    else:
        print(f"ended with {child.returncode}: starts again with the next changed file, or in 10 s", flush=True)
        told = signal.sigtimedwait(WANTED - {signal.SIGCHLD}, 10)
        if told and told.si_signo in END:
            sys.exit(child.returncode)
    child = start()
{{- end }}
