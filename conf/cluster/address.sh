#!/usr/bin/env bash
# A build on a Dask scheduler of your own, with TLS.
#
#   bash conf/cluster/address.sh scheduler                   on one machine
#   bash conf/cluster/address.sh worker                      on each machine, as often as it has cores
#   bash conf/cluster/address.sh build conf/bicycle.yaml     in a folder that all of them see at the same path
#
# The first call makes a key in COCO_DIY_DASK, by default ~/.config/coco-diy/dask. Without TLS whoever reaches the
# scheduler runs code as you; with it, who has the key. Copy that folder to machines that do not share your home.
# COCO_DIY_INTERFACE is the network on which they talk, as `ip addr` calls it.
set -eu
own=${COCO_DIY_DASK:-$HOME/.config/coco-diy/dask}
interface=${COCO_DIY_INTERFACE:-eth0}

umask 077
mkdir -p "$own"
[ -e "$own/key.pem" ] || openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=coco-diy \
  -keyout "$own/key.pem" -out "$own/certificate.pem" 2> /dev/null
umask 022
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$own/certificate.pem"
for role in SCHEDULER WORKER CLIENT; do
  export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$own/certificate.pem"
  export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$own/key.pem"
done

quiet=(--dashboard-address 127.0.0.1:0 --no-dashboard)
case "${1:-}" in
  scheduler)
    umask 077
    exec python3 -m dask scheduler --protocol tls:// --interface "$interface" --port 0 "${quiet[@]}" \
      --scheduler-file "$own/scheduler.json"
    ;;
  worker)
    exec python3 -m dask worker --protocol tls:// --interface "$interface" --nthreads 1 "${quiet[@]}" \
      --scheduler-file "$own/scheduler.json" --preload dask.dataframe --preload pipeline.cluster.worker
    ;;
  build)
    # The same as `engine.scheduler: tls://host:port` in a config.
    exec coco-diy "$@" --scheduler "$(sed -n 's/.*"address": "\([^"]*\)".*/\1/p' "$own/scheduler.json")"
    ;;
  *)
    echo "usage: address.sh scheduler | worker | build CONFIG" >&2
    exit 2
    ;;
esac
