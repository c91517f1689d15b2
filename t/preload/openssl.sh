#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# openssl and ssh-keygen: what they make under the library is checked without it.
. "${0%/*}/../lib/tap.sh"
need openssl
need ssh-keygen openssh-client
plan 9

cd "$TMP" || exit 1
seq 1 200000 >data
is "$(with_sluice openssl dgst -sha512 data)" "$(openssl dgst -sha512 data)" \
	"openssl makes the same digest as without the library"
with_sluice openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -in data -out data.enc &&
	openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:x -in data.enc -out data.dec
ok "$?$(cmp data data.dec >&2; echo $?)" \
	"a file encrypted under the library is decrypted without it"
with_sluice openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj \
	/CN=test 2>err
ok $? "openssl makes a key and a certificate"
with_sluice openssl dgst -sha256 -sign key.pem -out data.sig data
openssl x509 -in cert.pem -pubkey -noout >pub.pem
is "$(openssl dgst -sha256 -verify pub.pem -signature data.sig data)" "Verified OK" \
	"a signature made under the library verifies without it"
is "$(openssl verify -CAfile cert.pem cert.pem)" "cert.pem: OK" \
	"a certificate made under the library verifies without it"
like "$(with_sluice openssl speed -seconds 1 -bytes 1024 -evp aes-128-gcm 2>&1)" \
	'^AES-128-GCM +[0-9]|^aes-128-gcm +[0-9]' \
	"openssl speed runs"
proved_loaded "openssl was served by the library" openssl
with_sluice ssh-keygen -q -t ed25519 -N '' -f id &&
	with_sluice ssh-keygen -q -t rsa -b 2048 -N pass -f id_rsa
is "$(ssh-keygen -y -f id |
	cut -d ' ' -f 1-2)$(ssh-keygen -y -P pass -f id_rsa | cut -d ' ' -f 1-2)" \
	"$(cut -d ' ' -f 1-2 id.pub)$(cut -d ' ' -f 1-2 id_rsa.pub)" \
	"ssh-keygen makes keys that load without the library"
proved_loaded "ssh-keygen was served by the library" ssh-keygen
