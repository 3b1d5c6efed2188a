# shellcheck shell=bash
# plugin.sh - called by DevStack as "source plugin.sh MODE [PHASE]".
#
# Runs ratekitty in place of CloudKitty's processor (ck-proc) and API (ck-api), and
# a Loki if dataframes go there. README.md tells how to enable it, settings what can
# be set.

# Save trace setting
_XTRACE_RATEKITTY=$(set +o | grep xtrace)
set +o xtrace

# shellcheck source=devstack/lib/loki
source "$RATEKITTY_DIR/devstack/lib/loki"
# shellcheck source=devstack/lib/ratekitty
source "$RATEKITTY_DIR/devstack/lib/ratekitty"

if is_cloudkitty_enabled; then
    case $1/${2:-} in
        stack/pre-install)
            echo_summary "Checking the settings of ratekitty"
            check_ratekitty_settings
            install_ratekitty_packages
            ;;
        stack/install)
            echo_summary "Installing ratekitty"
            install_ratekitty
            install_cloudkittyclient
            if is_service_enabled horizon; then
                install_cloudkitty_dashboard
            fi
            if is_loki_managed; then
                echo_summary "Installing Loki"
                install_loki
            fi
            ;;
        stack/post-config)
            echo_summary "Configuring ratekitty"
            configure_cloudkitty
            if is_loki_managed; then
                configure_loki
            fi
            if is_service_enabled horizon; then
                configure_cloudkitty_dashboard
            fi
            if is_service_enabled ck-api && is_service_enabled key keystone; then
                create_cloudkitty_accounts
            fi
            ;;
        stack/extra)
            if is_loki_managed; then
                echo_summary "Starting Loki"
                start_loki
            fi
            echo_summary "Starting ratekitty"
            if is_service_enabled ck-api; then
                init_cloudkitty
            fi
            start_cloudkitty
            ;;
        stack/test-config)
            if is_service_enabled tempest; then
                echo_summary "Configuring tempest for ratekitty"
                configure_tempest_for_cloudkitty
            fi
            ;;
        unstack/*)
            echo_summary "Stopping ratekitty"
            stop_cloudkitty
            if is_loki_managed; then
                stop_loki
            fi
            ;;
        clean/*)
            echo_summary "Removing ratekitty"
            cleanup_cloudkitty
            if is_loki_managed; then
                cleanup_loki
            fi
            ;;
    esac
fi

# Restore xtrace
$_XTRACE_RATEKITTY
