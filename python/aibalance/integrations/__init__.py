"""Where requests flow: clients, servers, proxies, schedulers. One module a surface, each with its extra."""
