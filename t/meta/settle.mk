# SPDX-License-Identifier: BSD-2-Clause
# A build directory for t/meta/settle.sh: "make check" leaves what automake's does, for one test.
check:
	@if [ -e t/x.log ]; then cp t/x.second t/x.log; else cp t/x.first t/x.log; fi
	@if grep -q '^not ok' t/x.log; then r=FAIL; else r=PASS; fi; \
		echo "$$r: t/x.sh 1 - a"; test $$r = PASS
