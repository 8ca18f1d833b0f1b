#!/bin/sh
# Starts Elasticsearch as the entry point of upstream's image does; whatever else it is called with is run as it is.
set -e
umask 0002
export ELASTIC_CONTAINER=true PATH=/usr/share/elasticsearch/bin:$PATH
[ "$1" = eswrapper ] || exec "$@"
shift
exec /usr/share/elasticsearch/bin/elasticsearch "$@"
