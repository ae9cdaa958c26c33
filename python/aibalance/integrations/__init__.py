"""Where requests flow: clients, servers, metrics, discovery. One module a surface, each with an extra of its own.

Nothing here is imported by `import aibalance`, and a module imports its third-party package when it is first used: what
is missing is said then, with the command that installs it.
"""
