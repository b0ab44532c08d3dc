# One image for the API and the indexer: CPU only, no root, nothing but what runs.
FROM python:3.11.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt pyproject.toml README.md ./
# PyTorch's own index has the CPU wheels; the default one would bring gigabytes of CUDA.
RUN pip install --no-deps --constraint constraints.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision
# The dependencies by themselves, so that a change of the code does not install them again.
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
COPY knowledge_base knowledge_base
COPY rag_service rag_service
COPY indexer indexer
COPY eval eval
COPY api api
RUN pip install --no-deps --constraint constraints.txt . && pip check

FROM python:3.11.11-slim-bookworm
RUN groupadd --gid 10001 report && useradd --uid 10001 --gid report --no-create-home --shell /usr/sbin/nologin report \
    && install -d -o 10001 -g 10001 -m 750 /audit
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RAG_HOST=0.0.0.0 RAG_AUDIT_LOG=/audit
WORKDIR /srv
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Without RAG_API_KEY it refuses to start: the address is reachable from other machines.
CMD ["python", "-m", "api"]
